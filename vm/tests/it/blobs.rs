//! Inputs and outputs as blobs: one blob for one value, and no bytes that do harm.

use std::collections::BTreeMap;

use conun_vm::{Error, Input, MAX_ARGS_BYTES, OUTPUT_FOOTER_BYTES, Output};
use proptest::{collection, prelude::*};

/// Names that sort around `/`, repeat often enough to nest, and one that is not ASCII.
fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof!["[ab]", "[ab][-.0]", "[a-c]{1,3}", Just("ä".to_owned())];
    collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

/// Paths none of which is a directory of another.
fn files() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    collection::btree_map(path(), collection::vec(any::<u8>(), 0..40), 0..12).prop_map(|all| {
        let inside = |path: &String| all.keys().any(|other| other.starts_with(&format!("{path}/")));
        all.iter().filter(|(path, _)| !inside(path)).map(|(path, content)| (path.clone(), content.clone())).collect()
    })
}

type Parts = (Vec<String>, Vec<(String, String)>, [u8; 32], Vec<u8>, BTreeMap<String, Vec<u8>>);

fn parts() -> impl Strategy<Value = Parts> {
    let text = || "[^\0]{0,8}";
    (
        collection::vec(text(), 0..4),
        collection::vec(("[A-Z]{1,4}", text()), 0..4),
        any::<[u8; 32]>(),
        collection::vec(any::<u8>(), 0..100),
        files(),
    )
}

/// Files without content become empty directories, so that both occur.
fn input((args, env, seed, stdin, files): &Parts) -> Input<'_> {
    let (directories, files): (Vec<_>, Vec<_>) = files.iter().partition(|(_, content)| content.len() < 5);
    Input {
        args: args.iter().map(String::as_str).collect(),
        env: env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        seed: *seed,
        stdin,
        files: files.into_iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect(),
        empty_directories: directories.into_iter().map(|(path, _)| path.as_str()).collect(),
    }
}

fn output<'a>(stdout: &'a [u8], files: &'a BTreeMap<String, Vec<u8>>) -> Output<'a> {
    Output { stdout, files: files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect() }
}

proptest! {
    #[test]
    fn input_comes_back_from_its_blob(parts in parts()) {
        let input = input(&parts);
        let blob = input.encode().expect("every part is possible");
        prop_assert_eq!(Input::decode(&blob).expect("what was encoded"), input);
    }

    #[test]
    fn a_changed_blob_is_refused_or_another_input(parts in parts(), at: prop::sample::Index, to: u8, cut: bool) {
        let mut blob = input(&parts).encode().expect("every part is possible");
        let at = at.index(blob.len());
        if cut { blob.truncate(at) } else { blob[at] = to }
        if let Ok(other) = Input::decode(&blob) {
            prop_assert_eq!(other.encode().expect("what was decoded"), blob);
        }
    }

    #[test]
    fn output_comes_back_from_its_blob(stdout in collection::vec(any::<u8>(), 0..100), files in files()) {
        let output = output(&stdout, &files);
        let blob = output.encode();
        prop_assert_eq!(Output::decode(&blob).expect("what was encoded"), output);
    }

    #[test]
    fn a_changed_output_is_refused_or_another_output(files in files(), at: prop::sample::Index, to: u8, cut: bool) {
        let mut blob = output(b"text", &files).encode();
        let at = at.index(blob.len());
        if cut { blob.truncate(at) } else { blob[at] = to }
        if let Ok(other) = Output::decode(&blob) {
            prop_assert_eq!(other.encode(), blob);
        }
    }

    #[test]
    fn any_bytes_are_decoded_without_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
        let _ = Input::decode(&[b"CONUNIN1", bytes.as_slice()].concat());
        let _ = Output::decode(&bytes);
    }
}

/// The format of `SPEC.md`, byte for byte, so that it cannot change unnoticed.
#[test]
fn layout_of_an_input_is_the_specified_one() {
    let mut input =
        Input { args: vec!["-n", "1"], env: vec![("A", "b=c")], seed: [7; 32], stdin: b"hi", ..Input::default() };
    input.files.insert("d/x", b"123");
    input.empty_directories.insert("d/e");
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let table = (24 + 3) * 2;
    let content = 72 + 13 + 6 + table + 2;
    let expected = [
        b"CONUNIN1".to_vec(),
        vec![7; 32],
        words(&[3, 13, 1, 6, 2, table, 2, 0]),
        b"program\0-n\x001\0A=b=c\0".to_vec(),
        words(&[0, 0, 0, 0, 3, 1]),
        b"d/e".to_vec(),
        words(&[content, 0, 3, 0, 3, 0]),
        b"d/xhi123".to_vec(),
    ]
    .concat();
    assert_eq!(input.encode().expect("every part is possible"), expected);
}

#[test]
fn layout_of_an_output_is_the_specified_one() {
    let output = Output { stdout: b"hi", files: vec![("a", b"1"), ("b/c", b"23")] };
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let expected = [
        b"hi123".to_vec(),
        words(&[1, 0, 1]),
        b"a".to_vec(),
        words(&[2, 0, 3]),
        b"b/c".to_vec(),
        words(&[2, 0, 2, 28]),
    ]
    .concat();
    assert_eq!(output.encode(), expected);
    assert_eq!(Output::default().encode().len(), OUTPUT_FOOTER_BYTES);
}

#[test]
fn what_no_program_can_get_is_no_input() {
    let long = "x".repeat(MAX_ARGS_BYTES);
    let args = |arg| Input { args: vec![arg], ..Input::default() }.encode();
    assert_eq!(args("a\0b"), Err(Error::ArgWithNul { index: 0 }));
    assert_eq!(args(&long), Err(Error::ArgsTooLong { len: MAX_ARGS_BYTES + 1 }));
    assert!(args(&long[1..]).is_ok());
    let env = |name, value| Input { env: vec![(name, value)], ..Input::default() }.encode();
    for (name, value) in [("", "x"), ("a=b", "x"), ("a\0", "x"), ("a", "\0")] {
        assert!(matches!(env(name, value), Err(Error::EnvVariable { .. })), "{name:?} {value:?}");
    }
    assert_eq!(env("a", &long), Err(Error::EnvTooLong { len: MAX_ARGS_BYTES + 3 }));
    assert!(env("a", "b=c").is_ok());
}

#[test]
fn impossible_paths_are_no_input() {
    let refused = |paths: &[&str]| {
        let mut input = Input::default();
        input.files.extend(paths.iter().map(|path| (*path, b"".as_slice())));
        matches!(input.encode(), Err(Error::InputPath { .. }))
    };
    let (long_name, long_path) = ("n".repeat(256), "d/".repeat(2048) + "f");
    for path in ["", "/a", "a/", "a//b", ".", "a/.", "../a", "a/../b", "a\0", &long_name, &long_path, "out", "out/a"] {
        assert!(refused(&[path]), "{path:?}");
    }
    assert!(refused(&["a", "a-b", "a/b"]), "a file inside a file");
    assert!(!refused(&["a", "a-b", "b/a", "outer", ".a", "...", &long_name[1..], &long_path[2..]]));

    let mut input = Input::default();
    input.files.insert("a/b", b"");
    input.empty_directories.insert("a");
    assert!(matches!(input.encode(), Err(Error::InputPath { .. })), "a directory that is not empty");
    input.empty_directories = ["a/b"].into();
    assert!(matches!(input.encode(), Err(Error::InputPath { .. })), "a directory that is a file");
}

#[test]
fn blobs_of_no_canonical_form_are_refused() {
    let mut input = Input { stdin: b"hi", ..Input::default() };
    input.files.extend([("a", b"1".as_slice()), ("b", b"2")]);
    let blob = input.encode().expect("every part is possible");
    let table = 72 + 8;
    for (at, to) in [(0, b'X'), (table, 0), (table + 8, 2), (table + 20, 1), (table + 24, b'c'), (table + 24, b'b')] {
        let mut changed = blob.clone();
        changed[at] = to;
        assert!(Input::decode(&changed).is_err(), "byte {at}");
    }
    assert!(Input::decode(&[blob.as_slice(), b"x"].concat()).is_err(), "bytes behind the end");
    let swapped = Output { stdout: b"", files: vec![("b", b"1"), ("a", b"2")] }.encode();
    assert!(matches!(Output::decode(&swapped), Err(Error::OutputMalformed { .. })));
    let nested = Output { stdout: b"", files: vec![("a", b""), ("a-", b""), ("a/b", b"")] }.encode();
    assert!(matches!(Output::decode(&nested), Err(Error::OutputMalformed { .. })));
    let climbing = Output { stdout: b"", files: vec![("../a", b"")] }.encode();
    assert!(matches!(Output::decode(&climbing), Err(Error::OutputMalformed { .. })));
}
