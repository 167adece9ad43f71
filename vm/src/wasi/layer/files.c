// The functions of an open descriptor: read and write, seek, sizes and times.
#include "content.h"
#include "descriptors.h"
#include "guest.h"
#include "stat.h"
#include "task.h"

// A descriptor that is open for reading or for writing, whichever right is asked for.
static errno_t usable(u32 fd, u64 right, struct descriptor **descriptor) {
    *descriptor = descriptor_at(fd);
    if (!*descriptor) {
        return EBADF;
    }
    if ((*descriptor)->node && (*descriptor)->node->type == TYPE_DIRECTORY) {
        return right == RIGHT_READ ? EISDIR : EBADF;
    }
    return (*descriptor)->rights & right ? SUCCESS : EBADF;
}

// A descriptor of a file, which streams and directories are not.
static errno_t file_at(u32 fd, struct descriptor **descriptor) {
    *descriptor = descriptor_at(fd);
    if (!*descriptor) {
        return EBADF;
    }
    if (!(*descriptor)->node) {
        return ESPIPE;
    }
    return (*descriptor)->node->type == TYPE_DIRECTORY ? EBADF : SUCCESS;
}

// A file that can be written.
static errno_t writable_at(u32 fd, struct descriptor **descriptor) {
    errno_t error = file_at(fd, descriptor);
    if (error) {
        return error == ESPIPE ? EINVAL : error;
    }
    return (*descriptor)->rights & RIGHT_WRITE ? SUCCESS : EBADF;
}

enum direction { READ, WRITE };

// Moves the bytes of one buffer. Answers how many, or minus an errno.
static inline i64 move_buffer(struct descriptor *descriptor, u64 *position, u32 at, u32 len, enum direction direction) {
    if (!guest_has(at, len)) {
        return -EFAULT;
    }
    if (!descriptor->node) {
        if (direction == READ) {
            return stream_read(position, at, len);
        }
        stream_write(descriptor->stream, at, len);
        return len;
    }
    i64 moved = direction == READ ? content_read(descriptor->node, *position, at, len)
                                  : content_write(descriptor->node, *position, at, len);
    *position += moved > 0 ? (u64)moved : 0;
    return moved;
}

// Reads or writes a stream, or a file at `position`, which advances, until a buffer is not filled or not written to its
// end. What goes wrong is no error once something has been moved.
static inline errno_t move(struct descriptor *descriptor, u64 *position, u32 vectors, u32 count, u32 done_at,
                           enum direction direction) {
    if (!guest_has(vectors, (u64)count * 8) || !guest_has(done_at, 4)) {
        return EFAULT;
    }
    u32 done = 0;
    for (u32 i = 0; i < count; i++) {
        u32 len = guest_load32(vectors + i * 8 + 4);
        if (len > UINT32_MAX - done) {
            break;
        }
        i64 moved = move_buffer(descriptor, position, guest_load32(vectors + i * 8), len, direction);
        if (moved < 0 && done == 0) {
            return (errno_t)-moved;
        }
        done += moved < 0 ? 0 : (u32)moved;
        if (moved != len) {
            break;
        }
    }
    guest_store32(done_at, done);
    return SUCCESS;
}

static errno_t read(struct descriptor *from, u64 *position, u32 vectors, u32 count, u32 done_at) {
    return move(from, position, vectors, count, done_at, READ);
}

static errno_t write(struct descriptor *to, u64 *position, u32 vectors, u32 count, u32 done_at) {
    return move(to, position, vectors, count, done_at, WRITE);
}

WASI(fd_read)(u32 fd, u32 vectors, u32 count, u32 done) {
    struct descriptor *descriptor;
    errno_t error = usable(fd, RIGHT_READ, &descriptor);
    return error ? error : read(descriptor, &descriptor->position, vectors, count, done);
}

WASI(fd_write)(u32 fd, u32 vectors, u32 count, u32 done) {
    struct descriptor *descriptor;
    errno_t error = usable(fd, RIGHT_WRITE, &descriptor);
    if (error) {
        return error;
    }
    if (descriptor->node && descriptor->flags & FLAG_APPEND) {
        descriptor->position = descriptor->node->size;
    }
    return write(descriptor, &descriptor->position, vectors, count, done);
}

WASI(fd_pread)(u32 fd, u32 vectors, u32 count, u64 offset, u32 done) {
    struct descriptor *descriptor;
    errno_t error = usable(fd, RIGHT_READ, &descriptor);
    if (error) {
        return error;
    }
    if (!descriptor->node) {
        return ESPIPE;
    }
    return offset > INT64_MAX ? EINVAL : read(descriptor, &offset, vectors, count, done);
}

WASI(fd_pwrite)(u32 fd, u32 vectors, u32 count, u64 offset, u32 done) {
    struct descriptor *descriptor;
    errno_t error = usable(fd, RIGHT_WRITE, &descriptor);
    if (error) {
        return error;
    }
    if (!descriptor->node) {
        return ESPIPE;
    }
    return offset > INT64_MAX ? EINVAL : write(descriptor, &offset, vectors, count, done);
}

WASI(fd_seek)(u32 fd, i64 offset, u32 whence, u32 to) {
    struct descriptor *descriptor;
    errno_t error = file_at(fd, &descriptor);
    if (error) {
        return error;
    }
    if (whence > WHENCE_END) {
        return EINVAL;
    }
    i64 base = whence == WHENCE_SET ? 0 : (i64)(whence == WHENCE_CUR ? descriptor->position : descriptor->node->size);
    i64 position;
    if (__builtin_add_overflow(base, offset, &position) || position < 0) {
        return EINVAL;
    }
    if (!guest_has(to, 8)) {
        return EFAULT;
    }
    descriptor->position = (u64)position;
    guest_store64(to, (u64)position);
    return SUCCESS;
}

WASI(fd_tell)(u32 fd, u32 to) {
    struct descriptor *descriptor;
    errno_t error = file_at(fd, &descriptor);
    if (error) {
        return error;
    }
    if (!guest_has(to, 8)) {
        return EFAULT;
    }
    guest_store64(to, descriptor->position);
    return SUCCESS;
}

WASI(fd_advise)(u32 fd, u64 offset, u64 len, u32 advice) {
    struct descriptor *descriptor;
    errno_t error = file_at(fd, &descriptor);
    if (error) {
        return error;
    }
    return advice > 5 || offset > INT64_MAX || len > INT64_MAX ? EINVAL : SUCCESS;
}

WASI(fd_allocate)(u32 fd, u64 offset, u64 len) {
    struct descriptor *descriptor;
    errno_t error = writable_at(fd, &descriptor);
    if (error) {
        return error;
    }
    u64 end;
    if (len == 0 || offset > INT64_MAX || __builtin_add_overflow(offset, len, &end) || end > INT64_MAX) {
        return EINVAL;
    }
    struct node *node = descriptor->node;
    if (end > UINT32_MAX) {
        return EFBIG;
    }
    error = content_allocate(node, end);
    return error || end <= node->size ? error : content_resize(node, end);
}

WASI(fd_sync)(u32 fd) {
    struct descriptor *descriptor = descriptor_at(fd);
    return descriptor ? SUCCESS : EBADF;
}

WASI(fd_datasync)(u32 fd) {
    return wasi_fd_sync(fd);
}

WASI(fd_filestat_get)(u32 fd, u32 to) {
    struct descriptor *descriptor = descriptor_at(fd);
    if (!descriptor) {
        return EBADF;
    }
    return stat_give(descriptor->node, to);
}

WASI(fd_filestat_set_size)(u32 fd, u64 size) {
    struct descriptor *descriptor;
    errno_t error = writable_at(fd, &descriptor);
    if (error) {
        return error;
    }
    return size > INT64_MAX ? EINVAL : content_resize(descriptor->node, size);
}

WASI(fd_filestat_set_times)(u32 fd, u64 atim, u64 mtim, u32 flags) {
    struct descriptor *descriptor = descriptor_at(fd);
    if (!descriptor) {
        return EBADF;
    }
    return descriptor->node ? stat_set_times(descriptor->node, atim, mtim, flags) : EINVAL;
}
