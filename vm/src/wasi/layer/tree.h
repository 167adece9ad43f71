// The virtual file system: nodes, and directories' entries that give them names.
#pragma once

#include "wasi.h"

#define NAME_MAX 255u

// A file, a directory or a symbolic link.
struct node {
    u8 type;
    bool frozen;  // came with the input: neither it nor what is in it can be changed
    u32 links;    // entries that lead here; a directory that was removed has none
    u32 opens;    // descriptors that lead here
    u32 serial;   // inode number
    u64 size;     // bytes of a file's content or of a link's target
    u64 atim, mtim, ctim;
    union {
        u64 offset;  // a frozen file's content in the input
        struct {
            u8 *small;  // the content while it is at most a block
            u32 small_len;
            u32 slots;
            u8 **blocks;  // the content by blocks otherwise; where it is NULL, there are zeros
        } file;
        struct {
            struct node *parent;    // NULL for the root and what was removed
            struct entry **slots;   // entries in no order; a free slot has the number of the next one, and bit 0 set
            u32 used, capacity;     // slots that are or were in use; allocated
            u32 free;               // a free slot's number plus one, or 0
            u32 count;              // entries
        } directory;
        u8 *target;  // of a link
    };
};

// A name in a directory.
struct entry {
    struct entry *next;  // in the same bucket
    struct node *directory, *node;
    u32 hash, slot, len;
    u8 name[];
};

extern struct node tree_root;

// Gives the root its files, when it is first needed.
errno_t tree_ready(void);

// A node that nothing leads to yet, or NULL.
struct node *node_new(u8 type);

// Frees a node that neither an entry nor a descriptor leads to any more.
void node_drop(struct node *node);

// The entry of that name, or NULL.
struct entry *entry_find(struct node *directory, const u8 *name, u32 len);

// The first entry whose slot is `*slot` or behind it; its slot. NULL at the end.
struct entry *entry_at(struct node *directory, u32 *slot);

// A new name for a node, or NULL without memory. There must be none like it.
struct entry *entry_add(struct node *directory, const u8 *name, u32 len, struct node *node);

// Takes a name away, and frees its node if that was the last way to it.
void entry_remove(struct entry *entry);

// A directory's entry that leads to itself and has no name is not kept: `.` and `..` are made up where they are read.
static inline bool is_free(const struct entry *entry) {
    return (u32)entry & 1;
}
