//! The file system against Linux's: whatever is done to it, both answer the same and end up the same.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::symlink,
    path::Path,
};

use conun_vm::Input;
use proptest::{collection, prelude::*};

use crate::{
    wasi_errno::*,
    wasi_files::{CREATE, EXCLUSIVE, R, W},
    wasi_host::Script,
};

#[derive(Clone, Debug)]
enum Deed {
    Create(String),
    MakeDirectory(String),
    RemoveDirectory(String),
    Unlink(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String, String),
    Open(String),
    Stat(String),
    StatLink(String),
}

/// Few names, so that they meet often. No `..`: Linux would leave the test's folder through links.
fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![3 => "[a-c]", 1 => Just(".".to_owned())];
    (collection::vec(name, 1..4), prop_oneof![6 => Just(""), 1 => Just("/"), 1 => Just("/.")])
        .prop_map(|(names, end)| names.join("/") + end)
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => path().prop_map(Deed::Create),
        4 => path().prop_map(Deed::MakeDirectory),
        1 => path().prop_map(Deed::RemoveDirectory),
        1 => path().prop_map(Deed::Unlink),
        4 => (path(), path()).prop_map(|(old, new)| Deed::Rename(old, new)),
        2 => (path(), path()).prop_map(|(old, new)| Deed::Link(old, new)),
        3 => (path(), path()).prop_map(|(target, new)| Deed::Symlink(target, new)),
        1 => path().prop_map(Deed::Open),
        1 => path().prop_map(Deed::Stat),
        1 => path().prop_map(Deed::StatLink),
    ]
}

/// What Linux answers to it, as WASI says it.
fn on_linux(root: &Path, deed: &Deed) -> i32 {
    let at = |path: &String| format!("{}/{path}", root.display());
    let done = match deed {
        Deed::Create(path) => OpenOptions::new().write(true).create_new(true).open(at(path)).map(drop),
        Deed::MakeDirectory(path) => fs::create_dir(at(path)),
        Deed::RemoveDirectory(path) => fs::remove_dir(at(path)),
        Deed::Unlink(path) => fs::remove_file(at(path)),
        Deed::Rename(old, new) => fs::rename(at(old), at(new)),
        Deed::Link(old, new) => fs::hard_link(at(old), at(new)),
        Deed::Symlink(target, new) => symlink(target, at(new)),
        Deed::Open(path) => OpenOptions::new().read(true).open(at(path)).map(drop),
        Deed::Stat(path) => fs::metadata(at(path)).map(drop),
        Deed::StatLink(path) => fs::symlink_metadata(at(path)).map(drop),
    };
    done.map_or_else(|error| errno(&error), |()| SUCCESS)
}

fn errno(error: &io::Error) -> i32 {
    match error.raw_os_error().expect("an error of the system") {
        libc::ENOENT => ENOENT,
        libc::EEXIST => EEXIST,
        libc::ENOTDIR => ENOTDIR,
        libc::EISDIR => EISDIR,
        libc::ENOTEMPTY => ENOTEMPTY,
        libc::EINVAL => EINVAL,
        libc::EBUSY => EBUSY,
        libc::ELOOP => ELOOP,
        libc::EPERM => EPERM,
        other => panic!("unexpected errno {other} of Linux"),
    }
}

fn in_script(script: &mut Script, expect: i32, deed: &Deed) {
    let mut one = |function: &str, path: &String| {
        let path = script.bytes(path.as_bytes());
        script.call(expect, function, &[&[3], &path]);
    };
    match deed {
        Deed::Create(path) => drop(script.open(expect, path, CREATE | EXCLUSIVE, W)),
        Deed::Open(path) => drop(script.open(expect, path, 0, R)),
        Deed::MakeDirectory(path) => one("path_create_directory", path),
        Deed::RemoveDirectory(path) => one("path_remove_directory", path),
        Deed::Unlink(path) => one("path_unlink_file", path),
        Deed::Rename(old, new) => {
            let (old, new) = (script.bytes(old.as_bytes()), script.bytes(new.as_bytes()));
            script.call(expect, "path_rename", &[&[3], &old, &[3], &new]);
        }
        Deed::Link(old, new) => {
            let (old, new) = (script.bytes(old.as_bytes()), script.bytes(new.as_bytes()));
            script.call(expect, "path_link", &[&[3, 0], &old, &[3], &new]);
        }
        Deed::Symlink(target, new) => {
            let (target, new) = (script.bytes(target.as_bytes()), script.bytes(new.as_bytes()));
            script.call(expect, "path_symlink", &[&target, &[3], &new]);
        }
        Deed::Stat(path) | Deed::StatLink(path) => {
            let follow = i64::from(matches!(deed, Deed::Stat(_)));
            let path = script.bytes(path.as_bytes());
            script.call(expect, "path_filestat_get", &[&[3, follow], &path, &[0x9000]]);
        }
    }
}

/// Everything below a folder of Linux, links not followed.
fn tree(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the test") {
        let entry = entry.expect("an entry of the test");
        let path = format!("{prefix}{}", entry.file_name().to_str().expect("a name of the test"));
        found.push(path.clone());
        if entry.file_type().expect("a type").is_dir() {
            tree(&entry.path(), &(path + "/"), found);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn names_behave_as_on_linux(deeds in collection::vec(deed(), 1..60)) {
        let root = tempfile::tempdir().expect("a folder for the test");
        let mut script = Script::new();
        for deed in &deeds {
            in_script(&mut script, on_linux(root.path(), deed), deed);
        }
        let mut found = Vec::new();
        tree(root.path(), "", &mut found);
        for path in found {
            in_script(&mut script, SUCCESS, &Deed::StatLink(path));
        }
        script.run(&Input::default());
    }
}
