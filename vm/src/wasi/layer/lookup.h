// From a path to a place in the file system.
#pragma once

#include "tree.h"

struct place {
    struct node *parent;  // the directory that holds the last name; NULL if the path ends in no name (`.`, `..`)
    struct entry *entry;  // the last name's entry; NULL if there is none
    struct node *node;    // what the path leads to; NULL if there is nothing
    const u8 *name;
    u32 len;
    bool slash;  // the path ends in `/`: it can only mean a directory
};

// What to do with a symbolic link at a path's end. To make, remove or rename a name: nothing, and whether a slash fits what
// has the name is the caller's matter. To look something up: with a slash behind it, a link is followed in any case.
enum at_end { NAME_ONLY, NOT_FOLLOWED, FOLLOWED };

// Which of the two buffers for paths a call uses; a place's name may point into it.
enum path_buffer { PATH_FIRST, PATH_SECOND };

// Copies a path or a link's target from the program's memory and checks its form.
errno_t path_take(enum path_buffer buffer, u32 at, u32 len, const u8 **path);

// Follows a path from an open directory. That its last name is missing is no error.
errno_t path_find(u32 fd, enum at_end at_end, enum path_buffer buffer, u32 at, u32 len, struct place *place);
