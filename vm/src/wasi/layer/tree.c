#include "tree.h"

#include "content.h"
#include "heap.h"
#include "task.h"

struct node tree_root = {.type = TYPE_DIRECTORY, .links = 1, .opens = 1, .serial = 1};

static u32 last_serial = 1;

// All entries of all directories, by their hash. Grows with their number, so that a look-up does not get longer.
static struct entry *first_buckets[64];
static struct entry **buckets = first_buckets;
static u32 bucket_count = 64, entry_count;

struct node *node_new(u8 type) {
    struct node *node = heap_take(sizeof *node);
    if (node) {
        node->type = type;
        node->serial = ++last_serial;
        node->atim = node->mtim = node->ctim = clock_now();
    }
    return node;
}

void node_drop(struct node *node) {
    if (node->links || node->opens) {
        return;
    }
    if (node->type == TYPE_FILE && !node->frozen) {
        content_resize(node, 0);
    } else if (node->type == TYPE_DIRECTORY) {
        heap_free(node->directory.slots, node->directory.capacity * sizeof(struct entry *));
    } else if (node->type == TYPE_LINK) {
        heap_free(node->target, (u32)node->size);
    }
    heap_free(node, sizeof *node);
}

// FNV-1a over the name, begun with the directory.
static u32 hash_of(const struct node *directory, const u8 *name, u32 len) {
    u32 hash = 0x811c9dc5u ^ directory->serial * 0x9e3779b1u;
    for (u32 i = 0; i < len; i++) {
        hash = (hash ^ name[i]) * 0x01000193u;
    }
    return hash ^ hash >> 15;
}

static bool same(const u8 *a, const u8 *b, u32 len) {
    for (u32 i = 0; i < len; i++) {
        if (a[i] != b[i]) {
            return false;
        }
    }
    return true;
}

struct entry *entry_find(struct node *directory, const u8 *name, u32 len) {
    u32 hash = hash_of(directory, name, len);
    struct entry *entry = buckets[hash & (bucket_count - 1)];
    for (; entry; entry = entry->next) {
        if (entry->hash == hash && entry->directory == directory && entry->len == len && same(entry->name, name, len)) {
            return entry;
        }
    }
    return NULL;
}

struct entry *entry_at(struct node *directory, u32 *slot) {
    for (; *slot < directory->directory.used; ++*slot) {
        struct entry *entry = directory->directory.slots[*slot];
        if (!is_free(entry)) {
            return entry;
        }
    }
    return NULL;
}

// Twice as many buckets, if there is memory. If not, the lists get longer.
static void grow_buckets(void) {
    u32 count = bucket_count * 2;
    struct entry **grown = heap_take(count * sizeof *grown);
    if (!grown) {
        return;
    }
    for (u32 i = 0; i < bucket_count; i++) {
        for (struct entry *entry = buckets[i], *next; entry; entry = next) {
            next = entry->next;
            entry->next = grown[entry->hash & (count - 1)];
            grown[entry->hash & (count - 1)] = entry;
        }
    }
    if (buckets != first_buckets) {
        heap_free(buckets, bucket_count * sizeof *buckets);
    }
    buckets = grown;
    bucket_count = count;
}

// A slot for one more entry.
static bool take_slot(struct node *directory, u32 *slot) {
    if (directory->directory.free) {
        *slot = directory->directory.free - 1;
        directory->directory.free = (u32)directory->directory.slots[*slot] >> 1;
        return true;
    }
    u32 capacity = directory->directory.capacity;
    if (directory->directory.used == capacity) {
        u32 grown = capacity ? capacity * 2 : 4;
        u32 each = sizeof(struct entry *);
        void *slots = heap_resize(directory->directory.slots, capacity * each, capacity * each, grown * each);
        if (!slots) {
            return false;
        }
        directory->directory.slots = slots;
        directory->directory.capacity = grown;
    }
    *slot = directory->directory.used++;
    return true;
}

static void give_slot(struct node *directory, u32 slot) {
    directory->directory.slots[slot] = (struct entry *)(directory->directory.free << 1 | 1);
    directory->directory.free = slot + 1;
}

struct entry *entry_add(struct node *directory, const u8 *name, u32 len, struct node *node) {
    u32 slot;
    if (!take_slot(directory, &slot)) {
        return NULL;
    }
    struct entry *entry = heap_take(sizeof *entry + len);
    if (!entry) {
        give_slot(directory, slot);
        return NULL;
    }
    directory->directory.slots[slot] = entry;
    directory->directory.count++;
    directory->mtim = directory->ctim = clock_now();
    node->links++;
    u32 hash = hash_of(directory, name, len);
    struct entry **bucket = &buckets[hash & (bucket_count - 1)];
    entry->next = *bucket;
    entry->directory = directory;
    entry->node = node;
    entry->hash = hash;
    entry->slot = slot;
    entry->len = len;
    __builtin_memcpy(entry->name, name, len);
    *bucket = entry;
    if (++entry_count > bucket_count) {
        grow_buckets();
    }
    return entry;
}

void entry_remove(struct entry *entry) {
    struct entry **link = &buckets[entry->hash & (bucket_count - 1)];
    while (*link != entry) {
        link = &(*link)->next;
    }
    *link = entry->next;
    entry_count--;
    struct node *directory = entry->directory, *node = entry->node;
    give_slot(directory, entry->slot);
    directory->directory.count--;
    directory->mtim = directory->ctim = clock_now();
    heap_free(entry, sizeof *entry + entry->len);
    node->links--;
    node->ctim = directory->ctim;
    node_drop(node);
}

// The directory of that name, made if there is none; NULL without memory, or if something else has the name.
static struct node *subdirectory(struct node *parent, const u8 *name, u32 len, bool frozen) {
    struct entry *entry = entry_find(parent, name, len);
    if (entry) {
        return entry->node->type == TYPE_DIRECTORY ? entry->node : NULL;
    }
    struct node *node = node_new(TYPE_DIRECTORY);
    if (!node) {
        return NULL;
    }
    node->frozen = frozen;
    node->directory.parent = parent;
    return entry_add(parent, name, len, node) ? node : NULL;
}

// One file or empty directory of the input. `false` without memory; a path that no input has traps.
static bool add_input(const struct table_entry *file, const u8 *path) {
    struct node *directory = &tree_root;
    u32 begin = 0;
    for (u32 i = 0; i < file->path_len; i++) {
        if (path[i] == '/') {
            directory = subdirectory(directory, path + begin, i - begin, true);
            if (!directory) {
                return false;
            }
            begin = i + 1;
        }
    }
    u32 len = file->path_len - begin;
    if (file->flags & TABLE_DIRECTORY) {
        return subdirectory(directory, path + begin, len, true);
    }
    struct node *node = node_new(TYPE_FILE);
    if (!node || entry_find(directory, path + begin, len)) {
        return false;
    }
    node->frozen = true;
    node->size = file->len;
    node->offset = file->offset;
    return entry_add(directory, path + begin, len, node);
}

static errno_t build(void) {
    u8 path[PATH_MAX];
    u64 at = task_input()->table;
    for (u32 i = 0; i < task_input()->files; i++) {
        struct table_entry file;
        input_read(at, &file, sizeof file);
        if (file.path_len >= PATH_MAX) {
            __builtin_trap();
        }
        input_read(at + sizeof file, path, file.path_len);
        at += sizeof file + file.path_len;
        if (!add_input(&file, path)) {
            return ENOMEM;
        }
    }
    // Programs find these two without making them.
    bool made = subdirectory(&tree_root, (const u8 *)"out", 3, false) && subdirectory(&tree_root, (const u8 *)"tmp", 3, false);
    return made ? SUCCESS : ENOMEM;
}

errno_t tree_ready(void) {
    static enum { NOT_YET, READY, FAILED } state;
    if (state == NOT_YET) {
        // Set first: without memory, a second attempt would find the half of it.
        state = FAILED;
        state = build() == SUCCESS ? READY : FAILED;
    }
    return state == READY ? SUCCESS : ENOMEM;
}
