// A file of up to a block has its content in one piece, which grows as needed; a longer one in blocks. All bytes behind a
// file's end are zero, so that it can grow without clearing.
#include "content.h"

#include "guest.h"
#include "heap.h"
#include "task.h"

#define BLOCK 4096u

// Longest file, so that a list of blocks stays small: 4 GiB less one byte.
#define SIZE_MAX_FILE UINT32_MAX

static u8 zeros[BLOCK];

// Makes room for the first `size` bytes of a short file.
static bool reserve_small(struct node *file, u32 size) {
    u32 len = file->file.small_len;
    if (size <= len) {
        return true;
    }
    u32 grown = len * 2 < 64 ? 64 : len * 2;
    while (grown < size) {
        grown *= 2;
    }
    u8 *small = heap_resize(file->file.small, len, len, grown);
    if (!small) {
        return false;
    }
    file->file.small = small;
    file->file.small_len = grown;
    return true;
}

// Makes room in the list of blocks for `size` bytes; a short file becomes a long one, with its content as first block.
static bool reserve_slots(struct node *file, u64 size) {
    u32 needed = (u32)((size + BLOCK - 1) / BLOCK), slots = file->file.slots;
    if (needed <= slots) {
        return true;
    }
    u32 grown = slots * 2 < 8 ? 8 : slots * 2;
    while (grown < needed) {
        grown *= 2;
    }
    u8 *small = file->file.small;
    if (small && !reserve_small(file, BLOCK)) {
        return false;
    }
    u32 each = sizeof(u8 *);
    u8 **blocks = heap_resize(file->file.blocks, slots * each, slots * each, grown * each);
    if (!blocks) {
        return false;
    }
    if (small) {
        blocks[0] = file->file.small;
        file->file.small = NULL;
        file->file.small_len = 0;
    }
    file->file.blocks = blocks;
    file->file.slots = grown;
    return true;
}

// The block's bytes; NULL for zeros.
static u8 *block_at(const struct node *file, u32 index) {
    if (file->file.blocks) {
        return index < file->file.slots ? file->file.blocks[index] : NULL;
    }
    return index == 0 ? file->file.small : NULL;
}

// The block's bytes with room for `len` of them, for writing.
static u8 *block_for(struct node *file, u32 index, u32 len) {
    if (!file->file.blocks) {
        return reserve_small(file, len) ? file->file.small : NULL;
    }
    if (!file->file.blocks[index]) {
        file->file.blocks[index] = heap_take(BLOCK);
    }
    return file->file.blocks[index];
}

// Makes room for writing up to `size`; how much of that there is, is found block by block.
static bool reserve(struct node *file, u64 size) {
    return (size <= BLOCK && !file->file.blocks) || reserve_slots(file, size);
}

__attribute__((noinline)) u32 content_read(struct node *file, u64 offset, u32 to, u32 len) {
    if (offset >= file->size) {
        return 0;
    }
    len = min(file->size - offset, len);
    if (file->frozen) {
        return task_input_read(file->offset + offset, to, len);
    }
    for (u32 done = 0; done < len;) {
        u32 index = (u32)(offset / BLOCK), at = (u32)offset % BLOCK, part = min(len - done, BLOCK - at);
        u8 *block = block_at(file, index);
        if (!block || (!file->file.blocks && at >= file->file.small_len)) {
            guest_fill(to + done, 0, part);
        } else {
            // A short file's piece may end before the file does; what is missing are zeros.
            u32 have = file->file.blocks ? part : min(part, file->file.small_len - at);
            guest_copy_out(to + done, block + at, have);
            guest_fill(to + done + have, 0, part - have);
        }
        done += part;
        offset += part;
    }
    return len;
}

__attribute__((noinline)) i64 content_write(struct node *file, u64 offset, u32 from, u32 len) {
    if (len == 0) {
        return 0;
    }
    if (offset >= SIZE_MAX_FILE) {
        return -EFBIG;
    }
    len = min(SIZE_MAX_FILE - offset, len);
    if (!reserve(file, offset + len)) {
        return -ENOSPC;
    }
    u32 done = 0;
    while (done < len) {
        u32 index = (u32)(offset / BLOCK), at = (u32)offset % BLOCK, part = min(len - done, BLOCK - at);
        u8 *block = block_for(file, index, at + part);
        if (!block) {
            break;
        }
        guest_copy_in(block + at, from + done, part);
        done += part;
        offset += part;
    }
    if (done == 0) {
        return -ENOSPC;
    }
    if (offset > file->size) {
        file->size = offset;
    }
    file->mtim = file->ctim = clock_now();
    return done;
}

// Frees whole blocks from `index` on.
static void free_blocks(struct node *file, u32 index) {
    u32 slots = (u32)((file->size + BLOCK - 1) / BLOCK);
    for (; index < slots && index < file->file.slots; index++) {
        heap_free(file->file.blocks[index], BLOCK);
        file->file.blocks[index] = NULL;
    }
}

errno_t content_resize(struct node *file, u64 size) {
    if (size > SIZE_MAX_FILE) {
        return EFBIG;
    }
    if (size > file->size && !reserve(file, size)) {
        return ENOSPC;
    }
    if (size < file->size) {
        u32 index = (u32)(size / BLOCK), at = (u32)size % BLOCK;
        u8 *block = block_at(file, index);
        u32 len = file->file.blocks ? BLOCK : file->file.small_len;
        if (block && at < len) {
            __builtin_memset(block + at, 0, len - at);
        }
        if (file->file.blocks) {
            free_blocks(file, index + (at > 0));
        }
    }
    if (size == 0) {
        heap_free(file->file.small, file->file.small_len);
        heap_free(file->file.blocks, file->file.slots * sizeof(u8 *));
        __builtin_memset(&file->file, 0, sizeof file->file);
    }
    file->size = size;
    file->mtim = file->ctim = clock_now();
    return SUCCESS;
}

errno_t content_allocate(struct node *file, u64 size) {
    if (!reserve(file, size)) {
        return ENOSPC;
    }
    for (u64 offset = 0; offset < size; offset += BLOCK) {
        if (!block_for(file, (u32)(offset / BLOCK), min(size - offset, BLOCK))) {
            return ENOSPC;
        }
    }
    return SUCCESS;
}

void content_output(struct node *file) {
    if (file->frozen) {
        __builtin_trap(); // no input has files where outputs go
    }
    for (u64 offset = 0; offset < file->size;) {
        u32 index = (u32)(offset / BLOCK), part = min(file->size - offset, BLOCK);
        const u8 *block = block_at(file, index);
        if (block && (file->file.blocks || part <= file->file.small_len)) {
            task_output_write(own(block), part);
        } else {
            // Missing bytes are zeros; of a short file, those behind its piece.
            u32 have = block ? min(part, file->file.small_len) : 0;
            task_output_write(own(block), have);
            task_output_write(own(zeros), part - have);
        }
        offset += part;
    }
}
