// The task around the program: its input, its clocks, the end.
#pragma once

#include "guest.h"
#include "wasi.h"

// Longest path with the NUL that C puts behind it.
#define PATH_MAX 4096u

// What the input's header says, as places in the input.
struct task_input {
    u8 seed[32];
    u32 args, args_len;
    u32 variables, variables_len;
    u32 files;
    u64 stdin_len;
    u64 table, stdin;
};

// An entry of the input's file table; its path follows.
struct table_entry {
    u64 offset, len;
    u32 path_len, flags;
};

enum { TABLE_DIRECTORY = 1 };

// Reads the header at the first call. An input that is none makes the task fail.
const struct task_input *task_input(void);

// Reads bytes of the input that must be there.
void input_read(u64 offset, void *to, u32 len);

// Nanoseconds of real time, without advancing it.
u64 clock_now(void);

// A clock's nanoseconds, without advancing it; EINVAL if there is none of that number.
errno_t clock_read(u32 clock, u64 *nanos);

// Lets time pass on all clocks.
void clock_advance(u64 nanos);

// Writes the bytes that follow standard output: files, table, footer. Afterwards the file system is gone.
void output_finish(u64 stdout_len);
