// Blocks of fixed sizes, each size with its own list of free ones. Nothing is ever split or joined: the bulk of all
// memory is file content in blocks of 4 KiB, which are as good as new when they come back.
#include "heap.h"

extern u8 __heap_base;

#define PAGE 65536u

// Where memory begins that was never used, and where it ends. Zero: not begun yet.
static u32 fresh, end;

struct hole {
    struct hole *next;
};

// Multiples of 16 up to 128, then four sizes for each power of two, up to 2 GiB.
static struct hole *holes[8 + 24 * 4];

// The list for a size, which is rounded up to what blocks on that list have.
static u32 list_of(u32 *size) {
    if (*size <= 128) {
        u32 units = (*size + 15) / 16;
        units += units == 0;
        *size = units * 16;
        return units - 1;
    }
    u32 shift = 31 - (u32)__builtin_clz(*size - 1);
    u32 quarter = (*size - 1) >> (shift - 2) & 3;
    *size = (quarter + 5) << (shift - 2);
    return 8 + (shift - 7) * 4 + quarter;
}

static bool grow(u32 needed) {
    u32 pages = (needed + PAGE - 1) / PAGE;
    if (__builtin_wasm_memory_size(0) + pages > 65535) {
        return false; // `end` would not fit into 32 bits
    }
    size_t before = __builtin_wasm_memory_grow(0, pages);
    if (before == ~(size_t)0) {
        return false;
    }
    end = (before + pages) * PAGE;
    return true;
}

void *heap_take(u32 size) {
    if (size > 1u << 31) {
        return NULL;
    }
    u32 list = list_of(&size);
    struct hole *hole = holes[list];
    if (hole) {
        holes[list] = hole->next;
        __builtin_memset(hole, 0, size);
        return hole;
    }
    if (!fresh) {
        fresh = ((u32)&__heap_base + 15) & ~15u;
        end = (u32)__builtin_wasm_memory_size(0) * PAGE;
    }
    if (size > end - fresh && !grow(size - (end - fresh))) {
        return NULL;
    }
    void *block = (void *)fresh;
    fresh += size;
    return block;
}

void heap_free(void *block, u32 size) {
    if (block) {
        struct hole *hole = block;
        u32 list = list_of(&size);
        hole->next = holes[list];
        holes[list] = hole;
    }
}

void *heap_resize(void *block, u32 used, u32 from, u32 to) {
    void *moved = heap_take(to);
    if (moved && block) {
        __builtin_memcpy(moved, block, used);
        heap_free(block, from);
    }
    return moved;
}
