//! Paths: looking up, making, removing, renaming, linking, listing; and what becomes of `/out`.

use conun_vm::Input;

use crate::{
    wasi_errno::*,
    wasi_files::{CREATE, DIRECTORY, EXCLUSIVE, R, TRUNCATE, W},
    wasi_host::{Done, NOWHERE, RESULT, Script},
};

const FOLLOW: i64 = 1;
const FILE: u8 = 4;
const FOLDER: u8 = 3;
const LINK: u8 = 7;

/// The functions of one path from the root, each with the errno that is expected.
impl Script {
    fn on(&mut self, expect: i32, function: &str, path: &str) -> &mut Self {
        let path = self.bytes(path.as_bytes());
        self.call(expect, function, &[&[3], &path])
    }

    fn mkdir(&mut self, expect: i32, path: &str) -> &mut Self {
        self.on(expect, "path_create_directory", path)
    }

    fn rmdir(&mut self, expect: i32, path: &str) -> &mut Self {
        self.on(expect, "path_remove_directory", path)
    }

    fn unlink(&mut self, expect: i32, path: &str) -> &mut Self {
        self.on(expect, "path_unlink_file", path)
    }

    fn touch(&mut self, path: &str) -> &mut Self {
        self.open(SUCCESS, path, CREATE, R | W).raw("(drop (call $fd_close (i32.load (i32.const 0x8000))))")
    }

    fn stat(&mut self, expect: i32, path: &str, lookup: i64) -> &mut Self {
        let path = self.bytes(path.as_bytes());
        self.call(expect, "path_filestat_get", &[&[3, lookup], &path, &[0x9000]])
    }

    fn symlink(&mut self, expect: i32, target: &str, path: &str) -> &mut Self {
        let (target, path) = (self.bytes(target.as_bytes()), self.bytes(path.as_bytes()));
        self.call(expect, "path_symlink", &[&target, &[3], &path])
    }

    fn rename(&mut self, expect: i32, old: &str, new: &str) -> &mut Self {
        let (old, new) = (self.bytes(old.as_bytes()), self.bytes(new.as_bytes()));
        self.call(expect, "path_rename", &[&[3], &old, &[3], &new])
    }

    fn link(&mut self, expect: i32, old: &str, new: &str) -> &mut Self {
        let (old, new) = (self.bytes(old.as_bytes()), self.bytes(new.as_bytes()));
        self.call(expect, "path_link", &[&[3, 0], &old, &[3], &new])
    }
}

fn run(script: &Script) -> Done {
    script.run(&Input::default())
}

#[test]
fn paths_lead_where_they_say() {
    let mut script = Script::new();
    script.mkdir(SUCCESS, "a").mkdir(SUCCESS, "a/b/").touch("a/b/f");
    for path in ["a/b/f", "./a//b/./f", "a/../a/b/../b/f", "a/b/f"] {
        script.open(SUCCESS, path, 0, R);
    }
    for path in ["x", "a/x/f", "a/b/f2", "x/.."] {
        script.open(ENOENT, path, 0, R).stat(ENOENT, path, FOLLOW);
    }
    for path in ["a/b/f/", "a/b/f/x", "a/b/f/.", "a/b/f/.."] {
        script.open(ENOTDIR, path, 0, R).stat(ENOTDIR, path, FOLLOW);
    }
    for path in ["a", "a/", "a/.", ".", "a/..", "a/b/.."] {
        script.open(SUCCESS, path, DIRECTORY, R).stat(SUCCESS, path, 0);
    }
    script.open(ENOTDIR, "a/b/f", DIRECTORY, R);
    // From a directory that is a descriptor, but not above it.
    let [name, up] = ["b/f", "../a"].map(|path| script.bytes(path.as_bytes()));
    script.open(SUCCESS, "a", DIRECTORY, R).raw("(i32.store (i32.const 0x8008) (i32.load (i32.const 0x8000)))");
    script.raw(&format!(
        "(call $expect (call $path_filestat_get (i32.load (i32.const 0x8008)) (i32.const 0) (i32.const {})
            (i32.const {}) (i32.const 0x9000)) (i32.const 0) (i32.const 1))",
        name[0], name[1]
    ));
    script.raw(&format!(
        "(call $expect (call $path_filestat_get (i32.load (i32.const 0x8008)) (i32.const 0) (i32.const {})
            (i32.const {}) (i32.const 0x9000)) (i32.const {ENOTCAPABLE}) (i32.const 1))",
        up[0], up[1]
    ));
    run(&script);
}

#[test]
fn hostile_paths_are_refused() {
    let mut script = Script::new();
    let (name, path) = ("n".repeat(256), "d/".repeat(2048));
    for (path, errno) in [
        ("..", ENOTCAPABLE),
        ("tmp/../..", ENOTCAPABLE),
        ("../../../../etc/passwd", ENOTCAPABLE),
        ("/", ENOTCAPABLE),
        ("/tmp", ENOTCAPABLE),
        ("", ENOENT),
        ("a\0b", EINVAL),
        ("\0", EINVAL),
        (&name, ENAMETOOLONG),
        (&path, ENAMETOOLONG),
    ] {
        script.open(errno, path, CREATE, W).stat(errno, path, FOLLOW).mkdir(errno, path);
    }
    script.touch(&name[1..]).open(ENOTDIR, &format!("{}/x", &name[1..]), 0, R);
    for bytes in [b"\xff".as_slice(), b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xe4\xbd"]
    {
        let bytes = script.bytes(bytes);
        script.call(EILSEQ, "path_create_directory", &[&[3], &bytes]);
    }
    for name in ["ä", "日本", "\u{10ffff}", "\u{e000}", "\x01\n\\"] {
        script.mkdir(SUCCESS, name);
    }
    run(&script);
}

#[test]
fn paths_begin_at_directories_only() {
    let mut script = Script::new();
    script.touch("f").open(SUCCESS, "f", 0, R);
    let [path, other] = [b"tmp", b"tmq"].map(|path| script.bytes(path));
    for (fd, errno) in [(0, ENOTDIR), (4, ENOTDIR), (9, EBADF), (-1, EBADF)] {
        script.call(errno, "path_open", &[&[fd, 0], &path, &[0, R, 0, 0, RESULT]]);
        script.call(errno, "path_filestat_get", &[&[fd, 0], &path, &[0x9000]]);
        script.call(errno, "path_filestat_set_times", &[&[fd, 0], &path, &[0, 0, 0]]);
        script.call(errno, "path_readlink", &[&[fd], &path, &[0x9000, 9, RESULT]]);
        for function in ["path_create_directory", "path_remove_directory", "path_unlink_file"] {
            script.call(errno, function, &[&[fd], &path]);
        }
        script.call(errno, "path_symlink", &[&path, &[fd], &other]);
        for [from, to] in [[fd, 3], [3, fd]] {
            script.call(errno, "path_rename", &[&[from], &path, &[to], &other]);
            script.call(errno, "path_link", &[&[from, 0], &path, &[to], &other]);
        }
        script.call(errno, "fd_readdir", &[&[fd, 0x9000, 100, 0, RESULT]]);
    }
    run(&script);
}

#[test]
fn opening_makes_truncates_and_refuses_as_asked() {
    let mut script = Script::new();
    script.open(ENOENT, "f", 0, R).open(ENOENT, "f", TRUNCATE, W).open(ENOENT, "no/f", CREATE, W);
    script.open(SUCCESS, "f", CREATE | EXCLUSIVE, W).write(SUCCESS, 4, b"123");
    script.open(EEXIST, "f", CREATE | EXCLUSIVE, W).open(SUCCESS, "f", CREATE, R).read(5, 9);
    script.open(SUCCESS, "f", TRUNCATE, W).read(5, 9).write(SUCCESS, 4, b"456").read(5, 9);
    script.open(EISDIR, "tmp", 0, W).open(EISDIR, "tmp", CREATE, R).open(EISDIR, "tmp", TRUNCATE, R);
    script.open(EEXIST, "tmp", CREATE | EXCLUSIVE, R).open(SUCCESS, "tmp", DIRECTORY, R | W);
    script.open(EISDIR, "new/", CREATE, W).open(EINVAL, "new", CREATE | DIRECTORY, W).open(ENOENT, "new", 0, R);
    script.open(EINVAL, "f", 16, R);
    let path = script.bytes(b"f");
    script.call(EINVAL, "path_open", &[&[3, 0], &path, &[0, R, 0, 32, RESULT]]);
    assert_eq!(run(&script).stdout(), "123456");
}

#[test]
fn directories_are_made_and_removed_when_empty() {
    let mut script = Script::new();
    script.mkdir(EEXIST, "out").mkdir(EEXIST, "tmp/").mkdir(EEXIST, ".").mkdir(ENOENT, "a/b");
    script.mkdir(SUCCESS, "a").mkdir(SUCCESS, "a/b").touch("a/f").mkdir(EEXIST, "a/f").mkdir(ENOTDIR, "a/f/x");
    script.rmdir(ENOTEMPTY, "a").rmdir(ENOTDIR, "a/f").rmdir(ENOENT, "a/x").rmdir(EINVAL, "a/b/.").rmdir(EINVAL, ".");
    script.unlink(EISDIR, "a/b").unlink(EISDIR, "a/b/").unlink(ENOENT, "x").unlink(ENOTDIR, "a/f/").unlink(EISDIR, ".");
    // A directory that is open can be removed; then nothing can be made in it.
    script.open(SUCCESS, "a/b", DIRECTORY, R).rmdir(SUCCESS, "a/b/").unlink(SUCCESS, "a/f").rmdir(SUCCESS, "a");
    let [name, dot, up] = [b"x".as_slice(), b".", b".."].map(|path| script.bytes(path));
    script.call(ENOENT, "path_create_directory", &[&[4], &name]);
    script.call(ENOENT, "path_open", &[&[4, 0], &name, &[CREATE, W, 0, 0, RESULT]]);
    script.call(SUCCESS, "path_filestat_get", &[&[4, 0], &dot, &[0x9000]]);
    script.call(ENOTCAPABLE, "path_filestat_get", &[&[4, 0], &up, &[0x9000]]);
    script.call(SUCCESS, "fd_readdir", &[&[4, 0x9000, 100, 0, RESULT]]);
    script.mkdir(SUCCESS, "a").rmdir(SUCCESS, "a");
    run(&script);
}

#[test]
fn renaming_replaces_what_it_may_replace() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W).write(SUCCESS, 4, b"f").touch("g").mkdir(SUCCESS, "d");
    script.mkdir(SUCCESS, "d/in").mkdir(SUCCESS, "e").touch("d/in/leaf");
    script.rename(ENOENT, "x", "y").rename(ENOENT, "f", "no/f").rename(EISDIR, "f", "e").rename(ENOTDIR, "e", "f");
    script
        .rename(ENOTEMPTY, "e", "d")
        .rename(EINVAL, "d", "d/in/d")
        .rename(EINVAL, "d", "d/x")
        .rename(ENOTDIR, "f", "y/");
    script
        .rename(EBUSY, ".", "x")
        .rename(EBUSY, "d/in/.", "x")
        .rename(EBUSY, "e", "d/in/..")
        .rename(ENOTDIR, "f/", "x");
    script
        .rename(SUCCESS, "f", "f")
        .rename(SUCCESS, "f", "g")
        .open(ENOENT, "f", 0, R)
        .open(SUCCESS, "g", 0, R)
        .read(5, 9);
    // Over an empty directory, with everything in it; and back.
    script.rename(SUCCESS, "d", "e").stat(SUCCESS, "e/in/leaf", 0).stat(ENOENT, "d", 0).rename(SUCCESS, "e", "d/");
    script.stat(SUCCESS, "d/in/../in/leaf", 0).rename(SUCCESS, "d/in/leaf", "leaf").rename(SUCCESS, "d/in", "in");
    script.rmdir(SUCCESS, "d").stat(SUCCESS, "in/../leaf", 0);
    // Two names of one file stay.
    script.link(SUCCESS, "leaf", "leaf2").rename(SUCCESS, "leaf", "leaf2").stat(SUCCESS, "leaf", 0);
    assert_eq!(run(&script).stdout(), "f");
}

#[test]
fn links_give_a_file_another_name() {
    let mut script = Script::new();
    script.open(SUCCESS, "f", CREATE, R | W).write(SUCCESS, 4, b"one").link(SUCCESS, "f", "g").unlink(SUCCESS, "f");
    script.open(SUCCESS, "g", 0, R).read(5, 9).stat(SUCCESS, "g", 0).show(0x9018, 1);
    script.link(EEXIST, "g", "tmp").link(EEXIST, "g", "g").link(ENOENT, "f", "h").link(ENOENT, "g", "no/h");
    script.link(EPERM, "tmp", "h").link(ENOENT, "g", "h/").link(ENOTDIR, "g/", "h");
    assert_eq!(run(&script).stdout(), "one\x01");
}

#[test]
fn symbolic_links_are_followed_inside_the_file_system() {
    let mut script = Script::new();
    script.mkdir(SUCCESS, "d").mkdir(SUCCESS, "d/e").open(SUCCESS, "d/e/f", CREATE, R | W).write(SUCCESS, 4, b"found");
    script.symlink(SUCCESS, "d/e/f", "l").symlink(SUCCESS, "e/../e", "d/m").symlink(SUCCESS, "../l", "d/up");
    for path in ["l", "d/m/f", "d/m/../up", "./d/m//f"] {
        script.open(SUCCESS, path, 0, R).raw("(i32.store (i32.const 0x8008) (i32.load (i32.const 0x8000)))");
        script.stat(SUCCESS, path, FOLLOW).show(0x9010, 1).stat(SUCCESS, "l", 0).show(0x9010, 1);
    }
    // A slash behind a link means what it leads to.
    script.stat(SUCCESS, "d/m/", 0).show(0x9010, 1).stat(ENOTDIR, "l/", 0);
    let path = script.bytes(b"l");
    script.call(ELOOP, "path_open", &[&[3, 0], &path, &[0, R, 0, 0, RESULT]]);
    script.open(EEXIST, "l", CREATE | EXCLUSIVE, W).rmdir(ENOTDIR, "d/m").mkdir(EEXIST, "l");
    // Dangling: nothing to open, but a place to make a file.
    script.symlink(SUCCESS, "d/new", "dangling").open(ENOENT, "dangling", 0, R).stat(ENOENT, "dangling", FOLLOW);
    script.open(SUCCESS, "dangling", CREATE, W).stat(SUCCESS, "d/new", 0);
    // Out of the world, round and round, from nowhere.
    script.symlink(SUCCESS, "../..", "d/out").open(ENOTCAPABLE, "d/out", 0, R).symlink(ENOTCAPABLE, "/etc", "abs");
    script.symlink(SUCCESS, "b", "a").symlink(SUCCESS, "a", "b").open(ELOOP, "a", 0, R).stat(ELOOP, "a/x", 0);
    script.symlink(SUCCESS, "self/self", "self").stat(ELOOP, "self", FOLLOW);
    script.symlink(EEXIST, "x", "l").symlink(ENOENT, "", "x").symlink(ENOENT, "x", "no/x").symlink(ENOENT, "x", "x/");
    script.unlink(SUCCESS, "l").stat(SUCCESS, "d/e/f", 0).stat(ENOENT, "l", 0);
    let expected = [[FILE, LINK].repeat(4), vec![FOLDER]].concat();
    assert_eq!(run(&script).output().stdout, expected);
}

#[test]
fn the_fortieth_link_is_followed_and_no_further() {
    let mut script = Script::new();
    script.touch("l0");
    for i in 0..41 {
        script.symlink(SUCCESS, &format!("l{i}"), &format!("l{}", i + 1));
    }
    script.stat(SUCCESS, "l40", FOLLOW).stat(ELOOP, "l41", FOLLOW);
    run(&script);
}

#[test]
fn links_are_read_as_far_as_there_is_room() {
    let mut script = Script::new();
    script.symlink(SUCCESS, "some/target", "l").touch("f");
    let [link, file, none] = [b"l", b"f", b"x"].map(|path| script.bytes(path));
    script.call(SUCCESS, "path_readlink", &[&[3], &link, &[0x9000, 100, RESULT]]).show_read(0x9000);
    script.call(SUCCESS, "path_readlink", &[&[3], &link, &[0x9000, 4, RESULT]]).show_read(0x9000);
    script.call(SUCCESS, "path_readlink", &[&[3], &link, &[0x9000, 0, RESULT]]).show_read(0x9000);
    script.call(EINVAL, "path_readlink", &[&[3], &file, &[0x9000, 4, RESULT]]);
    script.call(ENOENT, "path_readlink", &[&[3], &none, &[0x9000, 4, RESULT]]);
    script.call(EFAULT, "path_readlink", &[&[3], &link, &[NOWHERE - 1, 2, RESULT]]);
    script.call(EFAULT, "path_readlink", &[&[3], &link, &[0x9000, 4, NOWHERE - 3]]);
    assert_eq!(run(&script).stdout(), "some/targetsome");
}

#[test]
fn times_are_set_by_path_with_or_without_following() {
    let mut script = Script::new();
    script.touch("f").symlink(SUCCESS, "f", "l");
    let [link, none] = [b"l", b"x"].map(|path| script.bytes(path));
    script.call(SUCCESS, "path_filestat_set_times", &[&[3, FOLLOW], &link, &[1, 2, 5]]);
    script.call(SUCCESS, "path_filestat_set_times", &[&[3, 0], &link, &[3, 4, 5]]);
    script.call(ENOENT, "path_filestat_set_times", &[&[3, 0], &none, &[3, 4, 5]]);
    script.call(EINVAL, "path_filestat_set_times", &[&[3, 0], &link, &[3, 4, 3]]);
    script.stat(SUCCESS, "f", 0).show(0x9028, 1).show(0x9030, 1).stat(SUCCESS, "l", 0).show(0x9028, 1).show(0x9030, 1);
    assert_eq!(run(&script).output().stdout, [1, 2, 3, 4]);
}

/// Next cookie, type and name of each entry.
fn entries(mut bytes: &[u8]) -> Vec<(u64, u8, String)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let next = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let len = u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes")) as usize;
        found.push((next, bytes[20], String::from_utf8(bytes[24..24 + len].to_vec()).expect("text")));
        bytes = &bytes[24 + len..];
    }
    found
}

#[test]
fn directories_are_listed_with_their_types() {
    let mut script = Script::new();
    script.mkdir(SUCCESS, "d").touch("d/file").mkdir(SUCCESS, "d/sub").symlink(SUCCESS, "x", "d/link");
    script.open(SUCCESS, "d", DIRECTORY, R);
    script.call(SUCCESS, "fd_readdir", &[&[4, 0x9000, 1000, 0, RESULT]]).show_read(0x9000);
    let done = run(&script);
    let found = entries(done.output().stdout);
    let names: Vec<_> = found.iter().map(|(_, kind, name)| (*kind, name.as_str())).collect();
    assert_eq!(names, [(FOLDER, "."), (FOLDER, ".."), (FILE, "file"), (FOLDER, "sub"), (LINK, "link")]);
}

#[test]
fn listing_goes_on_at_any_cookie_and_in_any_room() {
    let mut script = Script::new();
    script.mkdir(SUCCESS, "d").open(SUCCESS, "d", DIRECTORY, R);
    for name in ["a", "b", "c"] {
        script.touch(&format!("d/{name}"));
    }
    let list = |script: &mut Script, cookie, room| {
        script.call(SUCCESS, "fd_readdir", &[&[4, 0x9000, room, cookie, RESULT]]).show_read(0x9000);
    };
    list(&mut script, 3, 1000); // b, c
    script.unlink(SUCCESS, "d/b");
    list(&mut script, 3, 1000); // c
    list(&mut script, 4, 1000); // c
    script.touch("d/e"); // takes the place of b
    list(&mut script, 2, 1000); // a, e, c
    for cookie in [5, 6, -1, i64::MIN, 1 << 32] {
        list(&mut script, cookie, 1000); // nothing
    }
    script.call(SUCCESS, "fd_readdir", &[&[4, 0x9000, 0, 0, RESULT]]).show_read(0x9000);
    let found = run(&script);
    let names: String = entries(found.output().stdout).into_iter().map(|(_, _, name)| name).collect();
    assert_eq!(names, "bcccaec");

    // A full buffer means that there is more; the last entry may be cut off anywhere.
    let mut script = Script::new();
    script.call(SUCCESS, "fd_readdir", &[&[3, 0x9000, 1000, 0, RESULT]]).show_read(0x9000);
    let all = run(&script).output().stdout.to_vec();
    for room in 1..all.len() {
        let mut script = Script::new();
        script.call(SUCCESS, "fd_readdir", &[&[3, 0x9000, room as i64, 0, RESULT]]).show_read(0x9000);
        assert_eq!(run(&script).output().stdout, &all[..room]);
    }
}

#[test]
fn input_files_are_found_and_listed() {
    let mut input = Input::default();
    input.files.extend([("a-b", b"1".as_slice()), ("a/b/c", b"2"), ("a/d", b"3")]);
    input.empty_directories.insert("empty/one");
    let mut script = Script::new();
    for (fd, path) in (4..).zip(["a-b", "a/b/c", "a/d"]) {
        script.open(SUCCESS, path, 0, R).read(fd, 9);
    }
    script.open(SUCCESS, "a", DIRECTORY, R).stat(SUCCESS, "empty/one", 0).show(0x9010, 1);
    script.call(SUCCESS, "fd_readdir", &[&[7, 0x9000, 1000, 2, RESULT]]).show_read(0x9000);
    script.call(SUCCESS, "fd_readdir", &[&[3, 0x9000, 1000, 2, RESULT]]).show_read(0x9000);
    let done = script.run(&input);
    let (contents, lists) = done.output().stdout.split_at(4);
    assert_eq!(contents, b"123\x03");
    let names: Vec<_> = entries(lists).into_iter().map(|(_, _, name)| name).collect();
    assert_eq!(names, ["b", "d", "a-b", "a", "empty", "out", "tmp"]);
}

#[test]
fn files_under_out_become_outputs_in_order_of_their_paths() {
    let mut script = Script::new();
    script.mkdir(SUCCESS, "out/a").mkdir(SUCCESS, "out/a/b");
    let written = ["out/b", "out/a.x", "out/a/z", "out/a/b/c", "out/a-", "out/a0", "tmp/no", "no"];
    for (fd, path) in (4..).zip(written) {
        script.open(SUCCESS, path, CREATE, W).write(SUCCESS, fd, path.as_bytes());
    }
    script.open(SUCCESS, "out/empty", CREATE, W);
    script.mkdir(SUCCESS, "out/dir").symlink(SUCCESS, "b", "out/link").write(SUCCESS, 1, b"text");
    // Of a file without a name nothing remains, of one with two names two.
    script.touch("out/gone").unlink(SUCCESS, "out/gone").link(SUCCESS, "out/b", "out/a/b2");
    for exit in [false, true] {
        if exit {
            script.call(SUCCESS, "proc_exit", &[&[0]]);
        }
        let done = run(&script);
        let output = done.output();
        assert_eq!(output.stdout, b"text");
        let files: Vec<_> = output.files.iter().map(|(path, content)| (*path, content.len())).collect();
        let len = |path: &str| (path.len() + 4) as _;
        assert_eq!(
            files,
            [
                ("a-", len("a-")),
                ("a.x", len("a.x")),
                ("a/b/c", len("a/b/c")),
                ("a/b2", len("b")),
                ("a/z", len("a/z")),
                ("a0", len("a0")),
                ("b", len("b")),
                ("empty", 0)
            ]
        );
        assert_eq!(output.file("a/b/c"), Some(b"out/a/b/c".as_slice()));
    }
}

#[test]
fn large_sparse_and_cut_files_come_out_as_they_would_be_read() {
    let mut script = Script::new();
    script
        .open(SUCCESS, "out/large", CREATE, W)
        .raw("(memory.fill (i32.const 0x9000) (i32.const 120) (i32.const 10000))");
    let vectors = script.vectors(&[[0x9000, 10_000]]);
    script.call(SUCCESS, "fd_write", &[&[4], &vectors, &[RESULT]]);
    script.call(SUCCESS, "fd_filestat_set_size", &[&[4, 9_000]]).call(SUCCESS, "fd_filestat_set_size", &[&[4, 20_000]]);
    script.open(SUCCESS, "out/short", CREATE, W).write(SUCCESS, 5, b"ab");
    script.call(SUCCESS, "fd_filestat_set_size", &[&[5, 100]]);
    script.open(SUCCESS, "out/zeros", CREATE, W).call(SUCCESS, "fd_filestat_set_size", &[&[6, 70_000]]);
    let done = run(&script);
    let output = done.output();
    let padded = |text: &[u8], len| [text, &vec![0; len - text.len()]].concat();
    assert!(output.file("large").expect("a file") == padded(&[b'x'; 9_000], 20_000));
    assert!(output.file("short").expect("a file") == padded(b"ab", 100));
    assert!(output.file("zeros").expect("a file") == padded(b"", 70_000));
}

#[test]
fn another_out_or_none_is_what_counts_at_the_end() {
    let mut script = Script::new();
    script.touch("out/old").rename(SUCCESS, "out", "was").rename(SUCCESS, "tmp", "out").touch("out/new");
    assert_eq!(run(&script).output().files, [("new", b"".as_slice())]);
    let mut script = Script::new();
    script.rmdir(SUCCESS, "out").touch("out");
    assert_eq!(run(&script).output().files, []);
}
