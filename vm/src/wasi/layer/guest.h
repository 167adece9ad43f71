// What the layer can reach besides its own memory: the program's memory, and the four imports of a task.
//
// Functions of the module `guest` are no functions: the merger puts one instruction in the place of each call. A range
// outside the program's memory traps there, so that `guest_has` comes first wherever a pointer comes from the program.
#pragma once

#include "wasi.h"

#define GUEST(name) __attribute__((import_module("guest"), import_name(#name)))
#define TASK(name) __attribute__((import_module("conun"), import_name(#name)))

GUEST(size) u32 guest_pages(void);
GUEST(load8) u32 guest_load8(u32 at);
GUEST(load32) u32 guest_load32(u32 at);
GUEST(load64) u64 guest_load64(u32 at);
GUEST(store8) void guest_store8(u32 at, u32 value);
GUEST(store16) void guest_store16(u32 at, u32 value);
GUEST(store32) void guest_store32(u32 at, u32 value);
GUEST(store64) void guest_store64(u32 at, u64 value);
GUEST(fill) void guest_fill(u32 to, u32 byte, u32 len);
GUEST(copy_in) void guest_copy_in(void *to, u32 from, u32 len);
GUEST(copy_out) void guest_copy_out(u32 to, const void *from, u32 len);

TASK(input_len) u64 task_input_len(void);
TASK(input_read) u32 task_input_read(u64 offset, u64 address, u32 len);
TASK(output_write) void task_output_write(u64 address, u32 len);
TASK(exit) _Noreturn void task_exit(u32 code);

// An address of the layer's own memory, as the four imports want it; the program's are as they are.
static inline u64 own(const void *at) {
    return 1ull << 32 | (u32)at;
}

// Bytes that the program's memory had when it was last asked: it never shrinks, and asking costs an engine much more than
// any other instruction.
extern u64 guest_len;

// Whether memory has grown to that length meanwhile.
bool guest_has_grown(u64 len);

static inline bool guest_has(u32 at, u64 len) {
    return at + len <= guest_len || guest_has_grown(at + len);
}

static inline u32 min(u64 a, u32 b) {
    return a < b ? (u32)a : b;
}
