#include "descriptors.h"

#include "guest.h"
#include "heap.h"
#include "task.h"

#define DESCRIPTORS_MAX 65536u

// The preopened directory, which can be neither closed nor replaced: without it there are no paths.
#define ROOT 3u

static struct descriptor first[16] = {
    {.open = true, .stream = STREAM_INPUT, .rights = RIGHTS_FILE & ~RIGHT_WRITE},
    {.open = true, .stream = STREAM_OUTPUT, .rights = RIGHTS_FILE & ~RIGHT_READ},
    {.open = true, .stream = STREAM_ERROR, .rights = RIGHTS_FILE & ~RIGHT_READ},
    {.open = true, .stream = NO_STREAM, .node = &tree_root, .rights = RIGHTS_DIRECTORY, .inheriting = RIGHTS_ALL},
};
static struct descriptor *table = first;
static u32 table_len = 16;

// No number below this one is free.
static u32 lowest_free = ROOT + 1;

struct descriptor *descriptor_at(u32 fd) {
    return fd < table_len && table[fd].open ? &table[fd] : NULL;
}

errno_t directory_at(u32 fd, struct node **directory) {
    struct descriptor *descriptor = descriptor_at(fd);
    if (!descriptor) {
        return EBADF;
    }
    if (!descriptor->node || descriptor->node->type != TYPE_DIRECTORY) {
        return ENOTDIR;
    }
    *directory = descriptor->node;
    return tree_ready();
}

errno_t descriptor_free(u32 *fd) {
    while (lowest_free < table_len && table[lowest_free].open) {
        lowest_free++;
    }
    if (lowest_free == DESCRIPTORS_MAX) {
        return EMFILE;
    }
    if (lowest_free == table_len) {
        u32 each = sizeof *table;
        struct descriptor *grown = heap_resize(NULL, 0, 0, table_len * 2 * each);
        if (!grown) {
            return ENOMEM;
        }
        __builtin_memcpy(grown, table, table_len * each);
        if (table != first) {
            heap_free(table, table_len * each);
        }
        table = grown;
        table_len *= 2;
    }
    *fd = lowest_free;
    return SUCCESS;
}

void descriptor_open(u32 fd, struct node *node, u16 flags, u64 rights, u64 inheriting) {
    node->opens++;
    table[fd] = (struct descriptor){
        .open = true, .stream = NO_STREAM, .flags = flags, .node = node, .rights = rights, .inheriting = inheriting};
}

static void close(u32 fd) {
    struct node *node = table[fd].node;
    table[fd] = (struct descriptor){0};
    if (node) {
        node->opens--;
        node_drop(node);
    }
    if (fd < lowest_free) {
        lowest_free = fd;
    }
}

WASI(fd_close)(u32 fd) {
    if (!descriptor_at(fd)) {
        return EBADF;
    }
    if (fd == ROOT) {
        return ENOTSUP;
    }
    close(fd);
    return SUCCESS;
}

WASI(fd_renumber)(u32 from, u32 to) {
    if (!descriptor_at(from) || !descriptor_at(to)) {
        return EBADF;
    }
    if (from == ROOT || to == ROOT) {
        return ENOTSUP;
    }
    if (from != to) {
        close(to);
        table[to] = table[from];
        table[from] = (struct descriptor){0};
        if (from < lowest_free) {
            lowest_free = from;
        }
    }
    return SUCCESS;
}

WASI(fd_prestat_get)(u32 fd, u32 to) {
    if (fd != ROOT) {
        return EBADF;
    }
    if (!guest_has(to, 8)) {
        return EFAULT;
    }
    guest_store32(to, 0);      // a directory
    guest_store32(to + 4, 1);  // length of its name
    return SUCCESS;
}

WASI(fd_prestat_dir_name)(u32 fd, u32 to, u32 len) {
    if (fd != ROOT) {
        return EBADF;
    }
    if (len < 1) {
        return ENAMETOOLONG;
    }
    if (!guest_has(to, 1)) {
        return EFAULT;
    }
    guest_store8(to, '/');
    return SUCCESS;
}

WASI(fd_fdstat_get)(u32 fd, u32 to) {
    struct descriptor *descriptor = descriptor_at(fd);
    if (!descriptor) {
        return EBADF;
    }
    if (!guest_has(to, 24)) {
        return EFAULT;
    }
    // A stream's type is unknown: no terminal, so that C's library buffers whole blocks.
    guest_store32(to, descriptor->node ? descriptor->node->type : TYPE_UNKNOWN);
    guest_store32(to + 4, 0);
    guest_store16(to + 2, descriptor->flags);
    guest_store64(to + 8, descriptor->rights);
    guest_store64(to + 16, descriptor->inheriting);
    return SUCCESS;
}

WASI(fd_fdstat_set_flags)(u32 fd, u32 flags) {
    struct descriptor *descriptor = descriptor_at(fd);
    if (!descriptor) {
        return EBADF;
    }
    if (flags & ~FLAGS_ALL) {
        return EINVAL;
    }
    descriptor->flags = (u16)flags;
    return SUCCESS;
}

// Rights are kept and can be given up; only those to read and to write are looked at, as elsewhere today.
WASI(fd_fdstat_set_rights)(u32 fd, u64 rights, u64 inheriting) {
    struct descriptor *descriptor = descriptor_at(fd);
    if (!descriptor) {
        return EBADF;
    }
    if (rights & ~descriptor->rights || inheriting & ~descriptor->inheriting) {
        return ENOTCAPABLE;
    }
    descriptor->rights = rights;
    descriptor->inheriting = inheriting;
    return SUCCESS;
}
