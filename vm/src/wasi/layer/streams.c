// Standard input, output and error; and the program's own use of the four imports, which must fit in with them.
#include "descriptors.h"
#include "guest.h"
#include "task.h"

#define LOG_MAX 65536u

u64 guest_len;

__attribute__((noinline)) bool guest_has_grown(u64 len) {
    guest_len = (u64)guest_pages() << 16;
    return len <= guest_len;
}

// The first bytes of standard error. The engine reads them after the end, wherever the exported global says.
struct {
    u32 kept;
    u8 bytes[LOG_MAX];
} task_log;

static u64 written;

u64 stream_written(void) {
    return written;
}

u64 stream_left(u64 position) {
    return task_input()->stdin_len - position;
}

u32 stream_read(u64 *position, u32 to, u32 len) {
    u32 read = task_input_read(task_input()->stdin + *position, to, min(stream_left(*position), len));
    *position += read;
    return read;
}

void stream_write(u8 stream, u32 from, u32 len) {
    if (stream == STREAM_OUTPUT) {
        task_output_write(from, len);
        written += len;
    } else {
        u32 kept = min(len, LOG_MAX - task_log.kept);
        guest_copy_in(task_log.bytes + task_log.kept, from, kept);
        task_log.kept += kept;
    }
}

// A program may import both WASI and the four. Then its calls of the latter come here: an address is in its own memory,
// what it writes is part of standard output, and the end is the same as WASI's.
static void only_guest(u64 address) {
    if (address >> 32) {
        __builtin_trap();
    }
}

__attribute__((export_name("conun.input_len"))) u64 own_input_len(void) {
    return task_input_len();
}

__attribute__((export_name("conun.input_read"))) u32 own_input_read(u64 offset, u64 address, u32 len) {
    only_guest(address);
    return task_input_read(offset, address, len);
}

__attribute__((export_name("conun.output_write"))) void own_output_write(u64 address, u32 len) {
    only_guest(address);
    stream_write(STREAM_OUTPUT, (u32)address, len);
}

__attribute__((export_name("conun.exit"))) _Noreturn void own_exit(u32 code) {
    output_finish(written);
    task_exit(code);
}
