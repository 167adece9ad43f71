// What follows standard output at the end: contents of the files under `/out`, table, footer.
#include "content.h"
#include "guest.h"
#include "task.h"

// A buffer, so that the small pieces of the table do not cost a call each.
static u8 buffer[4096];
static u32 buffered;
static u64 table_len;

static void flush(void) {
    task_output_write(own(buffer), buffered);
    buffered = 0;
}

static void put(const void *bytes, u32 len) {
    table_len += len;
    for (const u8 *at = bytes; len;) {
        u32 part = min(len, sizeof buffer - buffered);
        __builtin_memcpy(buffer + buffered, at, part);
        buffered += part;
        at += part;
        len -= part;
        if (buffered == sizeof buffer) {
            flush();
        }
    }
}

// What compares for an entry at `i`: its name, and for a directory the `/` that follows it in all paths.
static u32 byte_at(const struct entry *entry, u32 i) {
    if (i < entry->len) {
        return entry->name[i] + 1u;
    }
    return i == entry->len && entry->node->type == TYPE_DIRECTORY ? '/' + 1u : 0;
}

static bool before(const struct entry *a, const struct entry *b) {
    u32 i = 0;
    while (byte_at(a, i) == byte_at(b, i)) {
        i++; // names differ somewhere
    }
    return byte_at(a, i) < byte_at(b, i);
}

static void sift(struct entry **entries, u32 root, u32 count) {
    for (u32 child; (child = root * 2 + 1) < count; root = child) {
        if (child + 1 < count && before(entries[child], entries[child + 1])) {
            child++;
        }
        if (!before(entries[root], entries[child])) {
            return;
        }
        struct entry *higher = entries[child];
        entries[child] = entries[root];
        entries[root] = higher;
    }
}

// Where the walk is in a directory: in the place of its first free slot, which nothing needs any more.
#define CURSOR(node) ((node)->directory.free)

// Sorts a directory's entries in place, free slots first taken out; heap sort takes no memory, which may be used up.
static void sort(struct node *directory) {
    struct entry **entries = directory->directory.slots;
    u32 count = 0;
    for (u32 slot = 0; slot < directory->directory.used; slot++) {
        if (!is_free(entries[slot])) {
            entries[count++] = entries[slot];
        }
    }
    directory->directory.used = count;
    CURSOR(directory) = 0;
    for (u32 root = count / 2; root-- > 0;) {
        sift(entries, root, count);
    }
    for (u32 last = count; last-- > 1;) {
        struct entry *highest = entries[0];
        entries[0] = entries[last];
        entries[last] = highest;
        sift(entries, 0, last);
    }
}

// The next file under `top` in order of paths, or NULL at the end. Deep trees cannot exhaust a stack: the way back up is
// in the nodes. The first walk sorts what it comes to.
static struct node *next_file(struct node *top, struct node **at, bool first) {
    for (;;) {
        struct node *directory = *at;
        if (CURSOR(directory) == directory->directory.used) {
            CURSOR(directory) = 0;
            if (directory == top) {
                return NULL;
            }
            *at = directory->directory.parent;
            CURSOR(*at)++;
            continue;
        }
        struct node *node = directory->directory.slots[CURSOR(directory)]->node;
        if (node->type == TYPE_DIRECTORY) {
            *at = node;
            if (first) {
                sort(node);
            }
        } else if (node->type == TYPE_FILE) {
            return node;
        } else {
            CURSOR(directory)++;
        }
    }
}

// The path of the file that the walk is at, relative to `top`: its length, and its bytes if `write` says so.
static u32 put_path(struct node *top, const struct node *last, bool write) {
    u32 len = 0;
    for (struct node *directory = top;;) {
        struct entry *entry = directory->directory.slots[CURSOR(directory)];
        bool end = directory == last;
        len += entry->len + !end;
        if (write) {
            put(entry->name, entry->len);
            put("/", !end);
        }
        if (end) {
            return len;
        }
        directory = entry->node;
    }
}

void output_finish(u64 stdout_len) {
    struct entry *entry = entry_find(&tree_root, (const u8 *)"out", 3);
    u32 files = 0;
    if (entry && entry->node->type == TYPE_DIRECTORY) {
        struct node *top = entry->node, *at = top;
        sort(top);
        for (struct node *file; (file = next_file(top, &at, true)); CURSOR(at)++, files++) {
            content_output(file);
        }
        for (struct node *file; (file = next_file(top, &at, false)); CURSOR(at)++) {
            u32 len = put_path(top, at, false);
            put(&file->size, sizeof file->size);
            put(&len, sizeof len);
            put_path(top, at, true);
        }
    }
    struct {
        u64 stdout_len;
        u32 files, table_len;
    } footer = {stdout_len, files, (u32)table_len};
    if (table_len > UINT32_MAX) {
        __builtin_trap();
    }
    put(&footer, sizeof footer);
    flush();
}
