// Numbers and layouts of WASI preview1.
// Specification: https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;

// A function that programs may import. The merger finds it by its export.
#define WASI(name) __attribute__((export_name(#name))) errno_t wasi_##name

typedef enum errno {
    SUCCESS = 0,
    EBADF = 8,
    EBUSY = 10,
    EEXIST = 20,
    EFAULT = 21,
    EFBIG = 22,
    EILSEQ = 25,
    EINVAL = 28,
    EISDIR = 31,
    ELOOP = 32,
    EMFILE = 33,
    ENAMETOOLONG = 37,
    ENOENT = 44,
    ENOMEM = 48,
    ENOSPC = 51,
    ENOTDIR = 54,
    ENOTEMPTY = 55,
    ENOTSOCK = 57,
    ENOTSUP = 58,
    EPERM = 63,
    EROFS = 69,
    ESPIPE = 70,
    EXDEV = 75,
    ENOTCAPABLE = 76,
} errno_t;

enum filetype { TYPE_UNKNOWN = 0, TYPE_DIRECTORY = 3, TYPE_FILE = 4, TYPE_LINK = 7 };

enum lookupflags { LOOKUP_FOLLOW = 1 };
enum oflags { OPEN_CREATE = 1, OPEN_DIRECTORY = 2, OPEN_EXCLUSIVE = 4, OPEN_TRUNCATE = 8 };
enum fdflags { FLAG_APPEND = 1, FLAGS_ALL = 31 };
enum whence { WHENCE_SET = 0, WHENCE_CUR = 1, WHENCE_END = 2 };
enum fstflags { SET_ATIM = 1, SET_ATIM_NOW = 2, SET_MTIM = 4, SET_MTIM_NOW = 8 };

#define RIGHT_READ (1ull << 1)
#define RIGHT_WRITE (1ull << 6)
#define RIGHTS_ALL ((1ull << 30) - 1)
// Set flags, poll, filestat, advise, sync and all else that is the same for everything that has bytes.
#define RIGHTS_FILE 0x08e001ffull
// Without read, write, seek, tell, allocate, set size: what there is to do with a directory.
#define RIGHTS_DIRECTORY 0x0fbffe18ull
