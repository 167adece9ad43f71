//! Arguments, environment, clocks, random bytes, streams, polling, sockets, the end.

use conun_vm::Input;

use crate::{
    wasi_errno::*,
    wasi_host::{Done, End, NOWHERE, RESULT, Script},
};

/// Nanoseconds of 2000-01-01 00:00:00 UTC.
const EPOCH: u64 = 946_684_800_000_000_000;

/// What each reading of a clock adds, in nanoseconds.
const STEP: u64 = 1_000_000;

fn words(done: &Done) -> Vec<u64> {
    done.output().stdout.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect()
}

#[test]
fn arguments_and_environment_are_the_inputs() {
    let input = Input { args: vec!["-n", "", "ä"], env: vec![("A", "1"), ("EMPTY", "")], ..Input::default() };
    for (sizes, get, expected) in
        [("args_sizes_get", "args_get", "program\0-n\0\0ä\0"), ("environ_sizes_get", "environ_get", "A=1\0EMPTY=\0")]
    {
        let mut script = Script::new();
        script.call(SUCCESS, sizes, &[&[RESULT, RESULT + 4]]).show(RESULT, 8);
        script.call(SUCCESS, get, &[&[0x4000, 0x5000]]).show(0x4000, 16).show(0x5000, expected.len() as i64);
        let done = script.run(&input);
        let (numbers, text) = done.output().stdout.split_at(24);
        assert_eq!(text, expected.as_bytes());
        let numbers: Vec<_> =
            numbers.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect();
        let count = expected.matches('\0').count();
        assert_eq!(numbers[..2], [count as u32, expected.len() as u32]);
        let begins = expected.match_indices('\0').map(|(at, _)| 0x5000 + at as u32 + 1);
        let begins: Vec<_> = [0x5000].into_iter().chain(begins).take(count).collect();
        assert_eq!(numbers[2..2 + count], begins);
    }
}

#[test]
fn nothing_given_is_a_name_and_no_environment() {
    let mut script = Script::new();
    script.call(SUCCESS, "environ_sizes_get", &[&[RESULT, RESULT + 4]]);
    script.call(SUCCESS, "environ_get", &[&[RESULT, RESULT]]);
    script.call(SUCCESS, "args_sizes_get", &[&[RESULT + 8, RESULT + 12]]);
    script.show(RESULT, 16);
    assert_eq!(words(&script.run(&Input::default())), [0, 1 | 8 << 32]);
}

#[test]
fn clocks_begin_by_the_seed_and_advance_when_they_are_read() {
    let mut script = Script::new();
    for (at, clock) in [(0, 0), (8, 0), (16, 1), (24, 2), (32, 3)] {
        script.call(SUCCESS, "clock_time_get", &[&[clock, 1, RESULT + at]]);
    }
    script.call(SUCCESS, "clock_res_get", &[&[1, RESULT + 40]]);
    script.call(EINVAL, "clock_time_get", &[&[4, 1, RESULT]]);
    script.call(EINVAL, "clock_res_get", &[&[-1, RESULT]]);
    script.show(RESULT, 48);
    let at = |seed| words(&script.run(&Input { seed, ..Input::default() }));
    assert_eq!(at([0; 32]), [EPOCH, EPOCH + STEP, 2 * STEP, 3 * STEP, 4 * STEP, STEP]);
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&[1, 0, 0, 0xe0]);
    assert_eq!(at(seed)[0], EPOCH + 1_000_000_000, "one second, and no more than 2^29 of them");
}

/// RFC 8439, appendix A.1, test vectors 1 and 2: key and nonce zero, block counters 0 and 1.
#[test]
fn random_bytes_are_the_key_stream_of_chacha20() {
    let mut script = Script::new();
    // In uneven parts, which together are the same stream.
    script.call(SUCCESS, "random_get", &[&[RESULT, 0]]);
    for (at, len) in [(0, 1), (1, 62), (63, 2), (65, 63)] {
        script.call(SUCCESS, "random_get", &[&[RESULT + at, len]]);
    }
    script.show(RESULT, 128);
    let done = script.run(&Input::default());
    let hex: String = done.output().stdout.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
         da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586\
         9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
         29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    );
    for byte in 0..32 {
        let mut seed = [0; 32];
        seed[byte] = 1;
        let other = script.run(&Input { seed, ..Input::default() });
        assert_ne!(other.blob, done.blob, "byte {byte} of the seed counts");
    }
}

#[test]
fn standard_input_is_read_as_asked_and_does_not_seek() {
    let mut script = Script::new();
    let three = script.vectors(&[[0x4000, 2], [0x4010, 0], [0x4020, 3]]);
    let ten = script.vectors(&[[0x4000, 10]]);
    script.call(SUCCESS, "fd_read", &[&[0], &three, &[RESULT]]).show(0x4000, 2).show(0x4020, 3).show(RESULT, 1);
    script.call(SUCCESS, "fd_read", &[&[0], &ten, &[RESULT]]).show_read(0x4000);
    script.call(SUCCESS, "fd_read", &[&[0], &ten, &[RESULT]]).show_read(0x4000);
    script.call(ESPIPE, "fd_seek", &[&[0, 0, 0, RESULT]]);
    script.call(ESPIPE, "fd_tell", &[&[0, RESULT]]);
    script.call(ESPIPE, "fd_pread", &[&[0], &ten, &[0, RESULT]]);
    script.call(EBADF, "fd_write", &[&[0], &ten, &[RESULT]]);
    script.call(EINVAL, "fd_filestat_set_size", &[&[0, 0]]);
    script.call(EINVAL, "fd_allocate", &[&[0, 0, 1]]);
    script.call(ESPIPE, "fd_advise", &[&[0, 0, 1, 0]]);
    let done = script.run(&Input { stdin: b"12345abc", ..Input::default() });
    assert_eq!(done.stdout(), "12345\x05abc");
}

#[test]
fn standard_output_and_error_take_everything_in_order() {
    let mut script = Script::new();
    let text = script.bytes(b"output errors");
    let out = script.vectors(&[[text[0], 3], [text[0] + 3, 4]]);
    let err = script.vectors(&[[text[0] + 7, 6]]);
    let none = script.vectors(&[]);
    script.call(SUCCESS, "fd_write", &[&[1], &out, &[RESULT]]);
    script.call(SUCCESS, "fd_write", &[&[2], &err, &[RESULT]]).show(RESULT, 1);
    script.call(SUCCESS, "fd_write", &[&[1], &none, &[RESULT]]).show(RESULT, 1);
    script.call(EBADF, "fd_read", &[&[1], &out, &[RESULT]]);
    script.call(ESPIPE, "fd_pwrite", &[&[1], &out, &[0, RESULT]]);
    script.call(SUCCESS, "fd_sync", &[&[1]]);
    script.call(SUCCESS, "fd_close", &[&[2]]);
    script.call(EBADF, "fd_write", &[&[2], &out, &[RESULT]]);
    let done = script.run(&Input::default());
    assert_eq!((done.stdout(), done.errors()), ("output \x06\0", "errors"));
}

#[test]
fn the_first_64_kib_of_standard_error_are_kept_also_when_the_task_fails() {
    let mut script = Script::new();
    let half = script.vectors(&[[0x4000, 0xa000]]);
    for _ in 0..3 {
        script.call(SUCCESS, "fd_write", &[&[2], &half, &[RESULT]]);
    }
    script.raw("unreachable");
    let done = script.run(&Input::default());
    assert_eq!((done.end, done.stderr.len()), (End::Trap, 65_536));
}

#[test]
fn streams_are_no_terminals() {
    let mut script = Script::new();
    for fd in 0..3 {
        script.call(SUCCESS, "fd_fdstat_get", &[&[fd, RESULT]]).show(RESULT, 16);
        script.call(SUCCESS, "fd_filestat_get", &[&[fd, RESULT]]);
    }
    let stats = words(&script.run(&Input::default()));
    let (read, write) = (1 << 1, 1 << 6);
    for (fd, stat) in stats.chunks(2).enumerate() {
        assert_eq!(stat[0], 0, "type unknown, no flags");
        assert_eq!(stat[1] & (read | write), if fd == 0 { read } else { write });
    }
}

#[test]
fn waiting_lets_the_clock_advance() {
    let clock = |user: u64, clock: u32, nanos: u64, absolute: u16| {
        let mut bytes = [0; 48];
        bytes[..8].copy_from_slice(&user.to_le_bytes());
        bytes[16..20].copy_from_slice(&clock.to_le_bytes());
        bytes[24..32].copy_from_slice(&nanos.to_le_bytes());
        bytes[40..42].copy_from_slice(&absolute.to_le_bytes());
        bytes
    };
    let mut script = Script::new();
    let late = EPOCH + 5_000;
    let [waits, _] = script.bytes(
        &[clock(7, 1, 9_000, 0), clock(8, 0, late, 1), clock(9, 1, 5_000, 0), clock(3, 0, late + 1, 1)].concat(),
    );
    script.call(SUCCESS, "poll_oneoff", &[&[waits, 0x4000, 4, RESULT]]);
    script.call(SUCCESS, "clock_time_get", &[&[1, 0, RESULT + 8]]);
    script.show(RESULT, 16).show(0x4000, 64);
    let found = words(&script.run(&Input::default()));
    assert_eq!(found[..2], [2, 5_000], "two events after the shortest wait");
    assert_eq!((found[2], found[3], found[6], found[7]), (8, 0, 9, 0));

    let mut script = Script::new();
    let [endless, _] = script.bytes(&clock(1, 1, u64::MAX, 0));
    for _ in 0..3 {
        script.call(SUCCESS, "poll_oneoff", &[&[endless, 0x4000, 1, RESULT]]);
    }
    script.call(SUCCESS, "clock_time_get", &[&[1, 0, RESULT]]).show(RESULT, 8);
    assert_eq!(words(&script.run(&Input::default())), [1 << 62], "time ends");
}

#[test]
fn descriptors_are_always_ready() {
    let on = |user: u8, kind: u8, fd: u8| {
        let mut bytes = [0; 48];
        (bytes[0], bytes[8], bytes[16]) = (user, kind, fd);
        bytes
    };
    let mut script = Script::new();
    let mut hour = on(9, 0, 1);
    hour[24..32].copy_from_slice(&3_600_000_000_000_u64.to_le_bytes());
    let [from, _] = script.bytes(&[hour, on(1, 1, 0), on(2, 2, 1), on(3, 1, 77), on(4, 0, 99)].concat());
    let [bad, _] = script.bytes(&on(1, 3, 0));
    script.call(SUCCESS, "poll_oneoff", &[&[from, 0x4000, 5, RESULT]]).show(RESULT, 8).show(0x4000, 128);
    script.call(EINVAL, "poll_oneoff", &[&[from, 0x4000, 0, RESULT]]);
    script.call(EINVAL, "poll_oneoff", &[&[bad, 0x4000, 1, RESULT]]);
    let found = words(&script.run(&Input { stdin: b"12345", ..Input::default() }));
    let event = |error: i32, kind: u64| error as u64 | kind << 16;
    assert_eq!(found[0] & 0xffff_ffff, 4, "the hour has not passed");
    let events: Vec<_> = found[1..].chunks(4).map(|event| [event[0], event[1], event[2]]).collect();
    assert_eq!(
        events,
        [[1, event(0, 1), 5], [2, event(0, 2), 65_536], [3, event(EBADF, 1), 0], [4, event(EINVAL, 0), 0]]
    );
}

#[test]
fn there_are_no_sockets() {
    let mut script = Script::new();
    for (fd, errno) in [(0, ENOTSOCK), (3, ENOTSOCK), (9, EBADF)] {
        script.call(errno, "sock_accept", &[&[fd, 0, RESULT]]);
        script.call(errno, "sock_recv", &[&[fd, RESULT, 1, 0, RESULT, RESULT]]);
        script.call(errno, "sock_send", &[&[fd, RESULT, 1, 0, RESULT]]);
        script.call(errno, "sock_shutdown", &[&[fd, 0]]);
    }
    script.call(SUCCESS, "sched_yield", &[]);
    assert_eq!(script.run(&Input::default()).end, End::Returned);
}

#[test]
fn a_task_ends_with_its_exit_code_or_badly() {
    let mut script = Script::new();
    script.call(SUCCESS, "proc_exit", &[&[-1]]);
    let done = script.run(&Input::default());
    assert_eq!((done.end, done.output().stdout), (End::Exit(-1), b"".as_slice()));
    let mut script = Script::new();
    script.call(SUCCESS, "proc_raise", &[&[6]]);
    assert_eq!(script.run(&Input::default()).end, End::Trap);
}

/// Whatever pointer leads out of memory, by one byte or by all: the errno, and nothing is moved.
#[test]
fn pointers_to_nowhere_are_efault() {
    let mut input = Input { stdin: b"some", ..Input::default() };
    input.files.insert("f", b"content");
    let mut script = Script::new();
    let [name, name_len] = script.bytes(b"f");
    let [good, one] = script.vectors(&[[0x4000, 4]]);
    script.call(SUCCESS, "path_open", &[&[3, 0, name, name_len, 0, 2, 0, 0, RESULT]]); // descriptor 4
    for last in [1, 4] {
        // One byte too few, or at the very end of all that 32 bits can name.
        let end = if last == 1 { NOWHERE - 3 } else { -1 };
        script.call(EFAULT, "args_get", &[&[end, 0x4000]]).call(EFAULT, "args_get", &[&[0x4000, end]]);
        script.call(EFAULT, "args_sizes_get", &[&[end, 0x4000]]).call(EFAULT, "args_sizes_get", &[&[0x4000, end]]);
        script.call(EFAULT, "environ_sizes_get", &[&[end, 0x4000]]);
        script.call(EFAULT, "clock_time_get", &[&[0, 0, end]]).call(EFAULT, "clock_res_get", &[&[0, end]]);
        script.call(EFAULT, "random_get", &[&[end, 4]]);
        script.call(EFAULT, "fd_fdstat_get", &[&[0, end]]).call(EFAULT, "fd_filestat_get", &[&[0, end]]);
        script.call(EFAULT, "fd_prestat_get", &[&[3, end]]);
        script.call(EFAULT, "fd_prestat_dir_name", &[&[3, NOWHERE, 1]]);
        for fd in [0, 4] {
            script.call(EFAULT, "fd_read", &[&[fd, end, 1, 0x4000]]).call(EFAULT, "fd_read", &[&[fd, good, one, end]]);
        }
        script.call(EFAULT, "fd_write", &[&[1, end, 1, 0x4000]]).call(EFAULT, "fd_write", &[&[1, good, one, end]]);
        script.call(EFAULT, "fd_pread", &[&[4, end, 1, 0, 0x4000]]);
        script.call(EFAULT, "fd_pread", &[&[4, good, one, 0, end]]);
        script.call(EFAULT, "fd_seek", &[&[4, 0, 1, end]]).call(EFAULT, "fd_tell", &[&[4, end]]);
        script.call(EFAULT, "fd_readdir", &[&[3, end, 4, 0, 0x4000]]);
        script.call(EFAULT, "fd_readdir", &[&[3, 0x4000, 4, 0, end]]);
        script.call(EFAULT, "path_open", &[&[3, 0, end, 4, 0, 2, 0, 0, RESULT]]);
        script.call(EFAULT, "path_open", &[&[3, 0, name, name_len, 0, 2, 0, 0, end]]);
        script.call(EFAULT, "path_filestat_get", &[&[3, 0, end, 4, 0x4000]]);
        script.call(EFAULT, "path_filestat_get", &[&[3, 0, name, name_len, end]]);
        script.call(EFAULT, "path_filestat_set_times", &[&[3, 0, end, 4, 0, 0, 0]]);
        for function in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
            script.call(EFAULT, function, &[&[3, end, 4]]);
        }
        script.call(EFAULT, "path_symlink", &[&[end, 4, 3, name, name_len]]);
        script.call(EFAULT, "path_symlink", &[&[name, name_len, 3, end, 4]]);
        script.call(EFAULT, "path_link", &[&[3, 0, end, 4, 3, name, name_len]]);
        script.call(EFAULT, "path_link", &[&[3, 0, name, name_len, 3, end, 4]]);
        script.call(EFAULT, "path_rename", &[&[3, end, 4, 3, name, name_len]]);
        script.call(EFAULT, "path_rename", &[&[3, name, name_len, 3, end, 4]]);
        script.call(EFAULT, "path_readlink", &[&[3, end, 4, 0x4000, 4, 0x4000]]);
        script.call(EFAULT, "poll_oneoff", &[&[end, 0x4000, 1, 0x4000]]);
        script.call(EFAULT, "poll_oneoff", &[&[0x4000, end, 1, 0x4000]]);
        script.call(EFAULT, "poll_oneoff", &[&[0x4000, 0x4000, 1, end]]);
    }
    // Buffers that lead to nowhere: nothing is read before them, so that all of it is there afterwards.
    for bad in [[NOWHERE - 3, 4], [-1, 1], [0x4000, NOWHERE], [0x4000, -1]] {
        let [vectors, count] = script.vectors(&[bad]);
        for (function, fd) in [("fd_read", 0), ("fd_read", 4), ("fd_write", 1), ("fd_write", 2)] {
            script.call(EFAULT, function, &[&[fd, vectors, count, RESULT]]);
        }
    }
    script.call(SUCCESS, "fd_read", &[&[0, good, one, RESULT]]).show_read(0x4000);
    script.call(SUCCESS, "fd_read", &[&[4, good, one, RESULT]]).show_read(0x4000);
    assert_eq!(script.run(&input).stdout(), "somecont");
}

/// A bad buffer behind good ones ends the call where it is: the caller learns how far it came.
#[test]
fn a_bad_buffer_behind_good_ones_shortens_the_call() {
    let mut script = Script::new();
    let [text, _] = script.bytes(b"good");
    let [vectors, count] = script.vectors(&[[text, 4], [-1, 1], [text, 4]]);
    script.call(SUCCESS, "fd_write", &[&[1, vectors, count, RESULT]]).show(RESULT, 1);
    assert_eq!(script.run(&Input::default()).stdout(), "good\x04");
}

/// More buffers than memory holds, and buffers that together are longer than 32 bits can say.
#[test]
fn huge_lists_of_buffers_do_no_harm() {
    let mut script = Script::new();
    script.call(EFAULT, "fd_write", &[&[1, 0x4000, 0x2000_0000, RESULT]]);
    script.call(EFAULT, "fd_read", &[&[0, 0x4000, -1, RESULT]]);
    script.call(EFAULT, "poll_oneoff", &[&[0x4000, 0x4000, -1, RESULT]]);
    let [vectors, count] = script.vectors(&vec![[0, 0x2_0000]; 1_000]);
    script.call(SUCCESS, "fd_read", &[&[0, vectors, count, RESULT]]).show(RESULT, 4);
    script.call(SUCCESS, "fd_write", &[&[2, vectors, count, RESULT]]).show(RESULT, 4);
    let done = script.run(&Input { stdin: b"", ..Input::default() });
    assert_eq!(done.output().stdout, [0_u32.to_le_bytes(), 131_072_000_u32.to_le_bytes()].concat());
}
