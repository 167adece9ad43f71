// Input, arguments, environment, clocks, random bytes, the end; and what no task has.
#include "task.h"

#include "descriptors.h"

#define MAGIC 0x314e494e554e4f43ull // "CONUNIN1"

// Real time begins at 2000-01-01 00:00:00 UTC plus, by the seed, up to 2^29 seconds (17 years).
#define EPOCH_SECS 946684800ull
#define EPOCH_MASK ((1u << 29) - 1)

// How far all clocks advance whenever one is read, in nanoseconds. A program that waits for time to pass gets on.
#define CLOCK_STEP 1000000ull

// Until here clocks can be advanced, so that no sum overflows.
#define CLOCK_END (1ull << 62)

enum { CLOCK_REAL = 0, CLOCKS = 4 };

struct header {
    u64 magic;
    u8 seed[32];
    u32 args, args_len, variables, variables_len, files, table_len;
    u64 stdin_len;
};

const struct task_input *task_input(void) {
    static struct task_input input;
    if (!input.table) {
        struct header header;
        input_read(0, &header, sizeof header);
        if (header.magic != MAGIC) {
            __builtin_trap();
        }
        __builtin_memcpy(input.seed, header.seed, sizeof input.seed);
        input.args = header.args;
        input.args_len = header.args_len;
        input.variables = header.variables;
        input.variables_len = header.variables_len;
        input.files = header.files;
        input.stdin_len = header.stdin_len;
        input.table = sizeof header + (u64)header.args_len + header.variables_len;
        input.stdin = input.table + header.table_len;
    }
    return &input;
}

void input_read(u64 offset, void *to, u32 len) {
    if (task_input_read(offset, own(to), len) != len) {
        __builtin_trap();
    }
}

// `count` strings of `len` bytes at `offset` of the input: their bytes to `bytes`, their addresses to `pointers`.
static errno_t give_strings(u32 pointers, u32 bytes, u32 count, u32 len, u64 offset) {
    if (!guest_has(pointers, (u64)count * 4) || !guest_has(bytes, len)) {
        return EFAULT;
    }
    if (task_input_read(offset, bytes, len) != len) {
        __builtin_trap();
    }
    for (u32 i = 0, at = bytes; i < count && at < bytes + len; i++) {
        guest_store32(pointers + i * 4, at);
        while (guest_load8(at++)) {
        }
    }
    return SUCCESS;
}

static errno_t give_sizes(u32 count_at, u32 len_at, u32 count, u32 len) {
    if (!guest_has(count_at, 4) || !guest_has(len_at, 4)) {
        return EFAULT;
    }
    guest_store32(count_at, count);
    guest_store32(len_at, len);
    return SUCCESS;
}

WASI(args_get)(u32 pointers, u32 bytes) {
    const struct task_input *input = task_input();
    return give_strings(pointers, bytes, input->args, input->args_len, sizeof(struct header));
}

WASI(args_sizes_get)(u32 count, u32 len) {
    return give_sizes(count, len, task_input()->args, task_input()->args_len);
}

WASI(environ_get)(u32 pointers, u32 bytes) {
    const struct task_input *input = task_input();
    u64 offset = sizeof(struct header) + (u64)input->args_len;
    return give_strings(pointers, bytes, input->variables, input->variables_len, offset);
}

WASI(environ_sizes_get)(u32 count, u32 len) {
    return give_sizes(count, len, task_input()->variables, task_input()->variables_len);
}

static u64 elapsed;

void clock_advance(u64 nanos) {
    elapsed = nanos > CLOCK_END - elapsed ? CLOCK_END : elapsed + nanos;
}

u64 clock_now(void) {
    const u8 *seed = task_input()->seed;
    u32 later = (u32)seed[0] | (u32)seed[1] << 8 | (u32)seed[2] << 16 | (u32)seed[3] << 24;
    return (EPOCH_SECS + (later & EPOCH_MASK)) * 1000000000 + elapsed;
}

errno_t clock_read(u32 clock, u64 *nanos) {
    if (clock >= CLOCKS) {
        return EINVAL;
    }
    *nanos = clock == CLOCK_REAL ? clock_now() : elapsed;
    return SUCCESS;
}

WASI(clock_res_get)(u32 clock, u32 to) {
    if (clock >= CLOCKS) {
        return EINVAL;
    }
    if (!guest_has(to, 8)) {
        return EFAULT;
    }
    guest_store64(to, CLOCK_STEP);
    return SUCCESS;
}

WASI(clock_time_get)(u32 clock, u64 precision, u32 to) {
    (void)precision;
    u64 nanos;
    if (!guest_has(to, 8)) {
        return EFAULT;
    }
    errno_t error = clock_read(clock, &nanos);
    if (error == SUCCESS) {
        guest_store64(to, nanos);
        clock_advance(CLOCK_STEP);
    }
    return error;
}

static u32 rotate(u32 word, u32 by) {
    return word << by | word >> (32 - by);
}

static void quarter_round(u32 *a, u32 *b, u32 *c, u32 *d) {
    *a += *b, *d = rotate(*d ^ *a, 16);
    *c += *d, *b = rotate(*b ^ *c, 12);
    *a += *b, *d = rotate(*d ^ *a, 8);
    *c += *d, *b = rotate(*b ^ *c, 7);
}

// The key stream of ChaCha20 (RFC 8439), key: the seed, nonce: zero, block counter: from zero, 64 bits.
static void random_block(u64 counter, u32 block[16]) {
    u32 start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    __builtin_memcpy(start + 4, task_input()->seed, 32);
    start[12] = (u32)counter;
    start[13] = (u32)(counter >> 32);
    __builtin_memcpy(block, start, sizeof start);
    for (u32 round = 0; round < 10; round++) {
        for (u32 i = 0; i < 4; i++) {
            quarter_round(block + i, block + i + 4, block + i + 8, block + i + 12);
        }
        for (u32 i = 0; i < 4; i++) {
            quarter_round(block + i, block + (i + 1) % 4 + 4, block + (i + 2) % 4 + 8, block + (i + 3) % 4 + 12);
        }
    }
    for (u32 i = 0; i < 16; i++) {
        block[i] += start[i];
    }
}

WASI(random_get)(u32 to, u32 len) {
    static u32 block[16];
    static u64 blocks;
    static u32 left;
    if (!guest_has(to, len)) {
        return EFAULT;
    }
    while (len) {
        if (left == 0) {
            random_block(blocks++, block);
            left = sizeof block;
        }
        u32 part = min(len, left);
        guest_copy_out(to, (u8 *)block + sizeof block - left, part);
        to += part;
        len -= part;
        left -= part;
    }
    return SUCCESS;
}

WASI(sched_yield)(void) {
    return SUCCESS;
}

// There are no signals: raising one ends the program as they do, badly.
WASI(proc_raise)(u32 signal) {
    (void)signal;
    __builtin_trap();
}

__attribute__((export_name("proc_exit"))) _Noreturn void wasi_proc_exit(u32 code) {
    output_finish(stream_written());
    task_exit(code);
}

// What the merger calls when `_start` has returned.
__attribute__((export_name("finish"))) void finish(void) {
    output_finish(stream_written());
}

// A task has no network, so that no descriptor is a socket.
static errno_t no_socket(u32 fd) {
    return descriptor_at(fd) ? ENOTSOCK : EBADF;
}

WASI(sock_accept)(u32 fd, u32 flags, u32 to) {
    (void)flags, (void)to;
    return no_socket(fd);
}

WASI(sock_recv)(u32 fd, u32 vectors, u32 count, u32 flags, u32 len, u32 out_flags) {
    (void)vectors, (void)count, (void)flags, (void)len, (void)out_flags;
    return no_socket(fd);
}

WASI(sock_send)(u32 fd, u32 vectors, u32 count, u32 flags, u32 len) {
    (void)vectors, (void)count, (void)flags, (void)len;
    return no_socket(fd);
}

WASI(sock_shutdown)(u32 fd, u32 how) {
    (void)how;
    return no_socket(fd);
}
