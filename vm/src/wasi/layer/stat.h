// What can be known of a node, and set, besides its content.
#pragma once

#include "tree.h"

// Writes a `filestat` into the program's memory; NULL is a stream.
errno_t stat_give(const struct node *node, u32 to);

errno_t stat_set_times(struct node *node, u64 atim, u64 mtim, u32 flags);
