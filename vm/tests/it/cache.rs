//! Compiled programs on disk: found again, never loaded when anything about them is wrong.

use std::fs;

use conun_vm::{
    Limits, Task,
    native::{Cache, Program},
};
use tempfile::TempDir;

use crate::{OK, native::prepared};

const HASH: [u8; 32] = [7; 32];
const PLENTY: u64 = 1 << 30;

fn open(folder: &TempDir, max_bytes: u64) -> Cache {
    Cache::open(&folder.path().join("programs"), max_bytes).expect("the folder is ours")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

/// All entries, with their content.
fn entries(folder: &TempDir) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder.path().join("programs")).expect("the cache has made its folder");
    let paths = files.map(|file| file.expect("it is readable").path()).filter(|path| !path.ends_with("key"));
    paths.map(|path| (path.clone(), fs::read(path).expect("it is readable"))).collect()
}

#[test]
fn program_from_the_cache_runs() {
    let folder = folder();
    let module = prepared("(call $output_write (i64.const 0) (i32.const 3))");
    let hash = *blake3::hash(&module).as_bytes();
    let program = Program::from_prepared(&module, Limits::default()).expect("it compiles");
    open(&folder, PLENTY).put(&hash, &program.artifact().expect("it can be written down")).expect("there is room");
    let artifact = open(&folder, PLENTY).get(&hash).expect("it is there");
    // SAFETY: the cache vouches for it.
    #[expect(unsafe_code, reason = "loading is what is tested")]
    let program = unsafe { Program::load(artifact, Limits::default()) }.expect("it is this machine's");
    let done = program.execute(&Task { input: b"".to_vec().into(), fuel_limit: 1_000 }).expect("a tiny task");
    assert_eq!((done.outcome, done.output), (OK, vec![0; 3]));
}

#[test]
fn entry_with_a_wrong_bit_is_gone() {
    let folder = folder();
    let cache = open(&folder, PLENTY);
    for at in [0, 7, 8, 39, 40, 41, 90, 139] {
        cache.put(&HASH, &[5; 100]).expect("there is room");
        assert_eq!(cache.get(&HASH).expect("it is there"), [5; 100][..]);
        let (path, mut bytes) = entries(&folder).pop().expect("it is there");
        assert_eq!(bytes.len(), 140);
        bytes[at] ^= 0x10;
        fs::write(&path, bytes).expect("it is ours");
        assert_eq!(cache.get(&HASH), None, "byte {at}");
        assert!(!path.exists(), "it will not be tried again");
    }
}

#[test]
fn entry_that_is_cut_short_or_longer_is_gone() {
    let folder = folder();
    let cache = open(&folder, PLENTY);
    for length in [0, 1, 8, 39, 40, 139] {
        cache.put(&HASH, &[5; 100]).expect("there is room");
        let (path, bytes) = entries(&folder).pop().expect("it is there");
        fs::write(&path, &bytes[..length]).expect("it is ours");
        assert_eq!(cache.get(&HASH), None, "{length} bytes");
        fs::write(&path, [&bytes[..], b"x"].concat()).expect("it is ours");
        assert_eq!(cache.get(&HASH), None, "a byte more");
    }
}

#[test]
fn entry_of_another_program_or_machine_is_not_taken() {
    let (here, there) = (folder(), folder());
    let (cache, elsewhere) = (open(&here, PLENTY), open(&there, PLENTY));
    // The same name on another machine, where the key is another.
    elsewhere.put(&HASH, &[5; 100]).expect("there is room");
    let (path, bytes) = entries(&there).pop().expect("it is there");
    let name = path.file_name().expect("a file has a name");
    fs::write(here.path().join("programs").join(name), bytes).expect("it is ours");
    assert_eq!(cache.get(&HASH), None);
    // Another program under this one's name.
    cache.put(&HASH, &[5; 100]).expect("there is room");
    let (path, _) = entries(&here).pop().expect("it is there");
    cache.put(&[8; 32], &[6; 100]).expect("there is room");
    let (other, _) = entries(&here).into_iter().find(|(other, _)| *other != path).expect("it is there");
    fs::copy(other, path).expect("it is ours");
    assert_eq!(cache.get(&HASH), None);
    assert_eq!(cache.get(&[8; 32]).expect("it is untouched"), [6; 100][..]);
}

#[test]
fn cache_stays_within_its_size_and_keeps_what_was_used_last() {
    let folder = folder();
    let cache = open(&folder, 3 * 140);
    let age = |hash: [u8; 32], seconds: u64| {
        // As if it had been used that long ago.
        let at = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        let path = entries(&folder).into_iter().find(|(_, bytes)| bytes[40] == hash[0]).expect("it is there").0;
        fs::File::options().append(true).open(path).and_then(|file| file.set_modified(at)).expect("it is ours");
    };
    for (program, seconds) in [(1, 300), (2, 200), (3, 100)] {
        cache.put(&[program; 32], &[program; 100]).expect("there is room");
        age([program; 32], seconds);
    }
    assert!(cache.get(&[1; 32]).is_some(), "and so it was used just now");
    cache.put(&[4; 32], &[4; 100]).expect("there is room");
    let kept = [1, 2, 3, 4].map(|program| cache.get(&[program; 32]).is_some());
    assert_eq!(kept, [true, false, true, true]);
    cache.put(&[5; 32], &[5; 1000]).expect("it is not kept, which is no error");
    assert!(cache.get(&[5; 32]).is_none() && cache.get(&[4; 32]).is_some());
}

#[cfg(unix)]
#[test]
fn key_that_others_can_read_is_replaced() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder();
    open(&folder, PLENTY).put(&HASH, &[5; 100]).expect("there is room");
    let key = folder.path().join("programs/key");
    let mode = || fs::metadata(&key).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let before = fs::read(&key).expect("it is ours");
    assert!(open(&folder, PLENTY).get(&HASH).is_some(), "the key stays");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    assert_eq!(open(&folder, PLENTY).get(&HASH), None);
    assert_eq!(mode(), 0o600);
    assert_ne!(fs::read(&key).expect("it is ours"), before);
    // One that is cut short, too.
    fs::write(&key, b"short").expect("it is ours");
    open(&folder, PLENTY);
    assert_eq!(fs::read(&key).expect("it is ours").len(), 32);
}

#[test]
fn folder_that_cannot_be_made_is_an_error_with_its_path() {
    let file = tempfile::NamedTempFile::new().expect("there is room for a file");
    let error = Cache::open(&file.path().join("programs"), PLENTY).expect_err("a file is no folder");
    assert!(!error.is_refusal());
    assert!(error.to_string().contains(&*file.path().to_string_lossy()), "{error}");
}
