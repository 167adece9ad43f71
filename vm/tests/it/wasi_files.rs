//! Open files: reading, writing, seeking, sizes, times, descriptors.

use conun_vm::Input;
use proptest::{collection, prelude::*};

use crate::{
    wasi_errno::*,
    wasi_host::{RESULT, Script},
};

/// Rights to read and to write; and `oflags`.
pub(crate) const R: i64 = 1 << 1;
pub(crate) const W: i64 = 1 << 6;
pub(crate) const CREATE: i64 = 1;
pub(crate) const DIRECTORY: i64 = 2;
pub(crate) const EXCLUSIVE: i64 = 4;
pub(crate) const TRUNCATE: i64 = 8;
const APPEND: i64 = 1;

impl Script {
    /// Opens a path from the root. Descriptors are numbered from 4.
    pub(crate) fn open(&mut self, expect: i32, path: &str, oflags: i64, rights: i64) -> &mut Self {
        self.open_with(expect, path, oflags, rights, 0)
    }

    fn open_with(&mut self, expect: i32, path: &str, oflags: i64, rights: i64, fdflags: i64) -> &mut Self {
        let path = self.bytes(path.as_bytes());
        self.call(expect, "path_open", &[&[3, 1], &path, &[oflags, rights, 0, fdflags, RESULT]])
    }

    pub(crate) fn write(&mut self, expect: i32, fd: i64, text: &[u8]) -> &mut Self {
        let text = self.bytes(text);
        let vectors = self.vectors(&[text]);
        self.call(expect, "fd_write", &[&[fd], &vectors, &[RESULT]])
    }

    /// Reads up to `len` bytes and shows them.
    pub(crate) fn read(&mut self, fd: i64, len: i64) -> &mut Self {
        let vectors = self.vectors(&[[0x9000, len]]);
        self.call(SUCCESS, "fd_read", &[&[fd], &vectors, &[RESULT]]).show_read(0x9000)
    }

    fn seek(&mut self, expect: i32, fd: i64, offset: i64, whence: i64) -> &mut Self {
        self.call(expect, "fd_seek", &[&[fd, offset, whence, RESULT]])
    }
}

fn with_file<'a>(path: &'a str, content: &'a [u8]) -> Input<'a> {
    let mut input = Input::default();
    input.files.insert(path, content);
    input
}

fn stdout(script: &Script) -> Vec<u8> {
    script.run(&Input::default()).output().stdout.to_vec()
}

#[test]
fn what_is_written_is_read_back() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W).write(SUCCESS, 4, b"hello ").write(SUCCESS, 4, b"world");
    script.read(4, 9).seek(SUCCESS, 4, 0, 0).read(4, 3).read(4, 100);
    script.seek(SUCCESS, 4, -5, 2).read(4, 2).seek(SUCCESS, 4, 1, 1).read(4, 9).read(4, 9);
    assert_eq!(stdout(&script), b"hello worldwold");
}

#[test]
fn input_files_are_read_where_they_are() {
    let mut script = Script::new();
    script.open(SUCCESS, "d/f", 0, R).read(4, 4).read(4, 100).seek(SUCCESS, 4, 2, 0).read(4, 2).read(4, 0);
    let vectors = script.vectors(&[[0x9000, 3], [0x9100, 100]]);
    script.call(SUCCESS, "fd_pread", &[&[4], &vectors, &[1, RESULT]]).show(0x9000, 3).show(0x9100, 3).show(RESULT, 1);
    script.call(SUCCESS, "fd_pread", &[&[4], &vectors, &[100, RESULT]]).show(RESULT, 1);
    assert_eq!(script.run(&with_file("d/f", b"1234567")).output().stdout, b"123456734234567\x06\0");
}

#[test]
fn input_files_and_their_directories_cannot_be_changed() {
    let mut script = Script::new();
    let [file, new, dir] = ["d/f", "d/new", "d"].map(|path| script.bytes(path.as_bytes()));
    let own = script.bytes(b"own");
    for (oflags, rights) in [(0, W), (0, R | W), (TRUNCATE, R), (CREATE, W)] {
        script.open(EROFS, "d/f", oflags, rights);
    }
    script.open(EROFS, "d/new", CREATE, W).open(EROFS, "e/new", CREATE, W);
    script.open(SUCCESS, "d/f", CREATE, R); // there it is already
    script.write(EBADF, 4, b"x");
    script.call(EBADF, "fd_filestat_set_size", &[&[4, 0]]).call(EBADF, "fd_allocate", &[&[4, 0, 1]]);
    script.call(EROFS, "fd_filestat_set_times", &[&[4, 0, 0, 5]]);
    script.call(EROFS, "path_filestat_set_times", &[&[3, 0], &file, &[0, 0, 5]]);
    script.call(EROFS, "path_unlink_file", &[&[3], &file]);
    script.call(EROFS, "path_create_directory", &[&[3], &new]);
    script.call(EROFS, "path_remove_directory", &[&[3], &dir]);
    script.call(EROFS, "path_symlink", &[&own, &[3], &new]);
    script.call(EROFS, "path_rename", &[&[3], &file, &[3], &own]);
    script.call(EROFS, "path_rename", &[&[3], &dir, &[3], &own]);
    script.call(EXDEV, "path_link", &[&[3, 0], &file, &[3], &own]);
    script.open(SUCCESS, "own", CREATE, W);
    script.call(EROFS, "path_rename", &[&[3], &own, &[3], &file]);
    script.call(EROFS, "path_rename", &[&[3], &own, &[3], &new]);
    script.call(EROFS, "path_link", &[&[3, 0], &own, &[3], &new]);
    let mut input = with_file("d/f", b"content");
    input.empty_directories.insert("e");
    script.read(4, 9);
    assert_eq!(script.run(&input).output().stdout, b"content");
}

#[test]
fn access_is_what_a_file_was_opened_for() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, W).open(SUCCESS, "f", 0, R).open(SUCCESS, "f", 0, 0);
    let vectors = script.vectors(&[[0x9000, 1]]);
    for (fd, read, write) in [(4, EBADF, SUCCESS), (5, SUCCESS, EBADF), (6, EBADF, EBADF)] {
        script.call(read, "fd_read", &[&[fd], &vectors, &[RESULT]]);
        script.call(read, "fd_pread", &[&[fd], &vectors, &[0, RESULT]]);
        script.call(write, "fd_write", &[&[fd], &vectors, &[RESULT]]);
        script.call(write, "fd_pwrite", &[&[fd], &vectors, &[0, RESULT]]);
        script.call(write, "fd_filestat_set_size", &[&[fd, 1]]);
        script.call(write, "fd_allocate", &[&[fd, 0, 1]]);
    }
    // Directories: neither.
    script.call(EISDIR, "fd_read", &[&[3], &vectors, &[RESULT]]);
    script.call(EISDIR, "fd_pread", &[&[3], &vectors, &[0, RESULT]]);
    script.call(EBADF, "fd_write", &[&[3], &vectors, &[RESULT]]);
    script.call(EBADF, "fd_pwrite", &[&[3], &vectors, &[0, RESULT]]);
    script.call(EBADF, "fd_seek", &[&[3, 0, 0, RESULT]]).call(EBADF, "fd_tell", &[&[3, RESULT]]);
    script.call(EBADF, "fd_filestat_set_size", &[&[3, 0]]).call(EBADF, "fd_allocate", &[&[3, 0, 1]]);
    script.call(EBADF, "fd_advise", &[&[3, 0, 0, 0]]);
    stdout(&script);
}

#[test]
fn appending_goes_to_the_end_wherever_the_position_is() {
    let mut script = Script::new();
    script.open_with(SUCCESS, "f", CREATE, R | W, APPEND).write(SUCCESS, 4, b"one").seek(SUCCESS, 4, 0, 0);
    script.write(SUCCESS, 4, b"two").seek(SUCCESS, 4, 0, 0).read(4, 9);
    script.call(SUCCESS, "fd_fdstat_set_flags", &[&[4, 0]]).seek(SUCCESS, 4, 0, 0).write(SUCCESS, 4, b"O");
    script.seek(SUCCESS, 4, 0, 0).read(4, 9);
    script.call(EINVAL, "fd_fdstat_set_flags", &[&[4, 32]]);
    assert_eq!(stdout(&script), b"onetwoOnetwo");
}

#[test]
fn positioned_writes_leave_the_position_and_holes_are_zeros() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W).write(SUCCESS, 4, b"ab");
    let text = script.bytes(b"xyz");
    let vectors = script.vectors(&[text]);
    script.call(SUCCESS, "fd_pwrite", &[&[4], &vectors, &[5, RESULT]]).write(SUCCESS, 4, b"c");
    script.call(EINVAL, "fd_pwrite", &[&[4], &vectors, &[-1, RESULT]]);
    script.call(EFBIG, "fd_pwrite", &[&[4], &vectors, &[1 << 32, RESULT]]);
    script.call(EINVAL, "fd_pread", &[&[4], &vectors, &[i64::MIN, RESULT]]);
    script.seek(SUCCESS, 4, 0, 0).read(4, 99);
    assert_eq!(stdout(&script), b"abc\0\0xyz");
}

#[test]
fn positions_are_from_zero_to_as_far_as_64_bits_go() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W).write(SUCCESS, 4, b"123");
    script.seek(EINVAL, 4, -1, 0).seek(EINVAL, 4, -4, 1).seek(EINVAL, 4, -4, 2).seek(EINVAL, 4, 0, 3);
    script.seek(SUCCESS, 4, i64::MAX, 0).seek(EINVAL, 4, 1, 1).read(4, 5).write(EFBIG, 4, b"x");
    script.seek(SUCCESS, 4, 0, 1).show(RESULT, 8);
    script.call(SUCCESS, "fd_tell", &[&[4, RESULT]]).show(RESULT, 8);
    script.seek(EBADF, 9, 0, 0).call(EBADF, "fd_tell", &[&[9, RESULT]]);
    assert_eq!(stdout(&script), [i64::MAX.to_le_bytes(); 2].concat());
}

#[test]
fn sizes_can_be_set_and_what_was_cut_off_does_not_come_back() {
    let mut script = Script::new();
    let size = |script: &mut Script, expect, size| {
        script.call(expect, "fd_filestat_set_size", &[&[4, size]]);
    };
    script.open(SUCCESS, "f", CREATE, R | W).write(SUCCESS, 4, b"12345");
    size(&mut script, SUCCESS, 2);
    size(&mut script, SUCCESS, 4);
    script.seek(SUCCESS, 4, 0, 0).read(4, 9);
    size(&mut script, EINVAL, -1);
    size(&mut script, EFBIG, 1 << 32);
    // Over several blocks of 4 KiB, and back.
    size(&mut script, SUCCESS, 10_000);
    script.seek(SUCCESS, 4, 9_990, 0).write(SUCCESS, 4, b"end").seek(SUCCESS, 4, 9_988, 0).read(4, 99);
    size(&mut script, SUCCESS, 9_991);
    size(&mut script, SUCCESS, 9_993);
    script.seek(SUCCESS, 4, 9_990, 0).read(4, 9);
    size(&mut script, SUCCESS, 1);
    size(&mut script, SUCCESS, 5_000);
    script.seek(SUCCESS, 4, 0, 0).read(4, 3).seek(SUCCESS, 4, 4_998, 0).read(4, 9);
    let expected = [b"12\0\0".as_slice(), b"\0\0end\0\0\0\0\0\0\0", b"e\0\0", b"1\0\0", b"\0\0"];
    assert_eq!(stdout(&script), expected.concat());
}

#[test]
fn allocation_grows_files_and_checks_its_range() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W).write(SUCCESS, 4, b"ab");
    script.call(SUCCESS, "fd_allocate", &[&[4, 0, 1]]).call(SUCCESS, "fd_allocate", &[&[4, 3, 2]]);
    script.call(EINVAL, "fd_allocate", &[&[4, 0, 0]]).call(EINVAL, "fd_allocate", &[&[4, -1, 1]]);
    script.call(EINVAL, "fd_allocate", &[&[4, i64::MAX, 1]]).call(EFBIG, "fd_allocate", &[&[4, 0, 1 << 32]]);
    script.call(EBADF, "fd_allocate", &[&[9, 0, 1]]);
    script.seek(SUCCESS, 4, 0, 0).read(4, 99);
    script.call(SUCCESS, "fd_allocate", &[&[4, 0, 20_000]]).seek(SUCCESS, 4, 0, 2).show(RESULT, 8);
    assert_eq!(stdout(&script), [b"ab\0\0\0".as_slice(), &20_000_u64.to_le_bytes()].concat());
}

#[test]
fn advice_and_syncing_are_accepted_for_what_is_open() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W);
    for fd in [1, 3, 4] {
        script.call(SUCCESS, "fd_sync", &[&[fd]]).call(SUCCESS, "fd_datasync", &[&[fd]]);
    }
    script.call(EBADF, "fd_sync", &[&[9]]).call(EBADF, "fd_datasync", &[&[9]]);
    for advice in 0..6 {
        script.call(SUCCESS, "fd_advise", &[&[4, 0, 10, advice]]);
    }
    script.call(EINVAL, "fd_advise", &[&[4, 0, 0, 6]]).call(EINVAL, "fd_advise", &[&[4, -1, 0, 0]]);
    script.call(EBADF, "fd_advise", &[&[9, 0, 0, 0]]);
    stdout(&script);
}

#[test]
fn stat_tells_type_size_links_and_times() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W).write(SUCCESS, 4, b"12345");
    script.call(SUCCESS, "fd_filestat_set_times", &[&[4, 11, 22, 5]]);
    script.call(SUCCESS, "fd_filestat_get", &[&[4, 0x9000]]).show(0x9000, 64);
    script.call(SUCCESS, "clock_time_get", &[&[0, 0, RESULT]]);
    script.call(SUCCESS, "fd_filestat_set_times", &[&[4, 0, 33, 2 | 4]]);
    script.call(SUCCESS, "fd_filestat_get", &[&[4, 0x9000]]).show(0x9000, 64);
    script.call(SUCCESS, "fd_filestat_get", &[&[3, 0x9000]]).show(0x9000, 64);
    for flags in [3, 12, 16] {
        script.call(EINVAL, "fd_filestat_set_times", &[&[4, 0, 0, flags]]);
    }
    script.call(EINVAL, "fd_filestat_set_times", &[&[1, 0, 0, 0]]);
    script.call(EBADF, "fd_filestat_set_times", &[&[9, 0, 0, 0]]).call(EBADF, "fd_filestat_get", &[&[9, 0x9000]]);
    let found = stdout(&script);
    let words: Vec<_> = found.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect();
    let start = 946_684_800_000_000_000;
    assert_eq!(words[2..8], [4, 1, 5, 11, 22, start]);
    assert_eq!(words[10..16], [4, 1, 5, start + 1_000_000, 33, start + 1_000_000]);
    assert_eq!(words[18] & 0xff, 3);
    assert_ne!(words[1], words[17], "inode numbers differ");
}

#[test]
fn descriptors_take_the_lowest_number_and_can_be_renumbered() {
    let mut script = Script::new();
    let opened = |script: &mut Script, path: &str| {
        script.open(SUCCESS, path, CREATE, R | W).show(RESULT, 1);
    };
    for path in ["a", "b", "c"] {
        opened(&mut script, path);
    }
    script.call(SUCCESS, "fd_close", &[&[5]]).call(EBADF, "fd_close", &[&[5]]);
    opened(&mut script, "d");
    script.write(SUCCESS, 6, b"in c").call(SUCCESS, "fd_renumber", &[&[6, 4]]).write(EBADF, 6, b"x");
    script.seek(SUCCESS, 4, 0, 0).read(4, 9);
    opened(&mut script, "e");
    script.call(SUCCESS, "fd_renumber", &[&[4, 4]]).call(EBADF, "fd_renumber", &[&[4, 9]]);
    script.call(EBADF, "fd_renumber", &[&[9, 4]]);
    // The root stays: without it there would be no paths.
    script.call(ENOTSUP, "fd_close", &[&[3]]).call(ENOTSUP, "fd_renumber", &[&[4, 3]]);
    script.call(ENOTSUP, "fd_renumber", &[&[3, 4]]);
    // Standard error becomes a file.
    script.call(SUCCESS, "fd_renumber", &[&[4, 2]]).write(SUCCESS, 2, b"!").seek(SUCCESS, 2, 0, 0).read(2, 9);
    let done = script.run(&Input::default());
    assert_eq!(done.stdout(), "\x04\x05\x06\x05in c\x06in c!");
    assert_eq!(done.errors(), "");
}

#[test]
fn rights_can_be_given_up_but_not_taken() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W);
    script.call(ENOTCAPABLE, "fd_fdstat_set_rights", &[&[4, R | W | 1 << 13, 0]]);
    script.call(SUCCESS, "fd_fdstat_set_rights", &[&[4, R, 0]]).write(EBADF, 4, b"x");
    script.call(ENOTCAPABLE, "fd_fdstat_set_rights", &[&[4, R | W, 0]]);
    script.call(SUCCESS, "fd_fdstat_get", &[&[4, 0x9000]]).show(0x9000, 16);
    script.call(EBADF, "fd_fdstat_set_rights", &[&[9, 0, 0]]).call(EBADF, "fd_fdstat_get", &[&[9, 0x9000]]);
    script.call(EBADF, "fd_fdstat_set_flags", &[&[9, 0]]);
    assert_eq!(stdout(&script), [4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn the_root_is_the_only_directory_opened_before() {
    let mut script = Script::new();
    script.call(SUCCESS, "fd_prestat_get", &[&[3, 0x9000]]).show(0x9000, 8);
    script.call(SUCCESS, "fd_prestat_dir_name", &[&[3, 0x9000, 1]]).show(0x9000, 1);
    script.call(ENAMETOOLONG, "fd_prestat_dir_name", &[&[3, 0x9000, 0]]);
    script.open(SUCCESS, "tmp", DIRECTORY, 0);
    for fd in [0, 2, 4, 5] {
        script.call(EBADF, "fd_prestat_get", &[&[fd, 0x9000]]);
        script.call(EBADF, "fd_prestat_dir_name", &[&[fd, 0x9000, 1]]);
    }
    assert_eq!(stdout(&script), b"\0\0\0\0\x01\0\0\0/");
}

#[test]
fn a_file_without_a_name_lives_as_long_as_it_is_open() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W).write(SUCCESS, 4, b"still here");
    let path = script.bytes(b"f");
    script.call(SUCCESS, "path_unlink_file", &[&[3], &path]).open(ENOENT, "f", 0, R);
    script.open(SUCCESS, "f", CREATE | EXCLUSIVE, R | W).write(SUCCESS, 5, b"new");
    script.seek(SUCCESS, 4, 0, 0).read(4, 99).call(SUCCESS, "fd_close", &[&[4]]);
    script.seek(SUCCESS, 5, 0, 0).read(5, 99);
    assert_eq!(stdout(&script), b"still herenew");
}

#[test]
fn unknown_descriptors_are_ebadf_everywhere() {
    let mut script = Script::new();
    let vectors = script.vectors(&[[0x9000, 1]]);
    for fd in [4, 65_535, 65_536, -1] {
        for function in ["fd_read", "fd_write"] {
            script.call(EBADF, function, &[&[fd], &vectors, &[RESULT]]);
        }
        for function in ["fd_pread", "fd_pwrite"] {
            script.call(EBADF, function, &[&[fd], &vectors, &[0, RESULT]]);
        }
        script.call(EBADF, "fd_close", &[&[fd]]).call(EBADF, "fd_readdir", &[&[fd, 0x9000, 9, 0, RESULT]]);
        script.call(EBADF, "fd_filestat_set_size", &[&[fd, 0]]);
    }
    stdout(&script);
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: u16, len: u16, byte: u8 },
    Append { len: u16, byte: u8 },
    Size(u16),
    Allocate { at: u16, len: u16 },
}

fn change() -> impl Strategy<Value = Change> {
    let place = || prop_oneof![0..200_u16, 4_000..4_200_u16, 0..20_000_u16];
    prop_oneof![
        3 => (place(), place(), 1..=255_u8).prop_map(|(at, len, byte)| Change::Write { at, len, byte }),
        2 => (place(), 1..=255_u8).prop_map(|(len, byte)| Change::Append { len, byte }),
        2 => place().prop_map(Change::Size),
        1 => (place(), 1..5_000_u16).prop_map(|(at, len)| Change::Allocate { at, len }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However a file is written, cut and grown: it has the bytes that a plain vector would have.
    #[test]
    fn a_file_is_a_vector_of_bytes(changes in collection::vec(change(), 1..25)) {
        let (mut script, mut model) = (Script::new(), Vec::new());
        script.open(SUCCESS, "out/f", CREATE, R | W);
        let vectors = |script: &mut Script, len: u16, byte: u8| {
            script.raw(&format!("(memory.fill (i32.const 0x9000) (i32.const {byte}) (i32.const {len}))"));
            script.vectors(&[[0x9000, len.into()]])
        };
        for change in changes {
            match change {
                Change::Write { at, len, byte } => {
                    let vectors = vectors(&mut script, len, byte);
                    script.call(SUCCESS, "fd_pwrite", &[&[4], &vectors, &[at.into(), RESULT]]);
                    let end = usize::from(at) + usize::from(len);
                    model.resize(if len == 0 { model.len() } else { model.len().max(end) }, 0);
                    model.get_mut(at.into()..end).into_iter().for_each(|part| part.fill(byte));
                }
                Change::Append { len, byte } => {
                    let vectors = vectors(&mut script, len, byte);
                    script.call(SUCCESS, "fd_fdstat_set_flags", &[&[4, APPEND]]);
                    script.call(SUCCESS, "fd_write", &[&[4], &vectors, &[RESULT]]);
                    model.resize(model.len() + usize::from(len), byte);
                }
                Change::Size(size) => {
                    script.call(SUCCESS, "fd_filestat_set_size", &[&[4, size.into()]]);
                    model.resize(size.into(), 0);
                }
                Change::Allocate { at, len } => {
                    script.call(SUCCESS, "fd_allocate", &[&[4, at.into(), len.into()]]);
                    model.resize(model.len().max(usize::from(at) + usize::from(len)), 0);
                }
            }
        }
        // As a program reads it, and as it comes out.
        script.seek(SUCCESS, 4, 0, 0).read(4, 0x1_7000);
        let done = script.run(&Input::default());
        let read = model.len().min(0x1_7000);
        prop_assert!(done.output().stdout == &model[..read]);
        prop_assert!(done.output().file("f") == Some(&model));
    }
}
