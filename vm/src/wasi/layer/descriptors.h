// What file descriptors stand for.
#pragma once

#include "tree.h"

enum stream { STREAM_INPUT, STREAM_OUTPUT, STREAM_ERROR, NO_STREAM };

struct descriptor {
    bool open;
    u8 stream;
    u16 flags;          // fdflags
    struct node *node;  // if it is no stream
    u64 position;       // where a file is read and written next; of standard input, too
    u64 rights, inheriting;
};

// The descriptor, or NULL if it is not open. The pointer holds until the next one is opened.
struct descriptor *descriptor_at(u32 fd);

// The descriptor of a directory, for a look-up in it.
errno_t directory_at(u32 fd, struct node **directory);

// The lowest number that is free, which stays so until a descriptor is put there.
errno_t descriptor_free(u32 *fd);

// Puts a descriptor for a node at a number that is free.
void descriptor_open(u32 fd, struct node *node, u16 flags, u64 rights, u64 inheriting);

// Bytes of standard output so far.
u64 stream_written(void);

// Reads standard input into the program's memory, at a position that advances.
u32 stream_read(u64 *position, u32 to, u32 len);
u64 stream_left(u64 position);

// Writes standard output or standard error.
void stream_write(u8 stream, u32 from, u32 len);
