// The bytes of files.
#pragma once

#include "tree.h"

// Reads up to `len` bytes at `offset` into the program's memory. Answers how many there were.
u32 content_read(struct node *file, u64 offset, u32 to, u32 len);

// Writes `len` bytes of the program's memory at `offset`. Answers how many, less when memory or the file's size is used up;
// if none for that reason, minus the errno.
i64 content_write(struct node *file, u64 offset, u32 from, u32 len);

// Cuts a file off, or appends zeros that take no memory.
errno_t content_resize(struct node *file, u64 size);

// Takes the memory for all bytes up to `size`, which must not be behind the file's end.
errno_t content_allocate(struct node *file, u64 size);

// Appends a file's content to the output.
void content_output(struct node *file);
