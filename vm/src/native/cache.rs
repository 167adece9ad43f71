//! Compiled programs on disk.
//!
//! A compiled program is native code: whoever writes a file that is loaded has this user's rights. So each file carries a
//! keyed hash, under a key that only this user can read, over what it is for and what is in it. A file that anybody else wrote,
//! that was cut short or has a wrong bit, or that is for another processor, engine or profile, is not loaded but compiled again.
//!
//! | file | content |
//! |---|---|
//! | `key` | 32 random bytes, made at first use, mode 0600 |
//! | hex of an entry's id | `CONUNAOT` · keyed BLAKE3 of id and artifact under the key · artifact |
//!
//! The id is a hash of the prepared module's hash, [`PROFILE`] and [`engine_id`]. Files are written under another name and
//! renamed. When all together are larger than the cache may be, those go first that were not used for longest.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;

use super::engine_id;
use crate::{PROFILE, error::Error};

const MAGIC: &[u8; 8] = b"CONUNAOT";

/// Bytes before the artifact: the magic and the tag.
const HEADER: usize = MAGIC.len() + blake3::OUT_LEN;

const KEY_FILE: &str = "key";

/// A folder of compiled programs. Several processes may use it at the same time.
#[derive(Clone)]
pub struct Cache {
    folder: PathBuf,
    key: [u8; blake3::KEY_LEN],
    max_bytes: u64,
}

impl std::fmt::Debug for Cache {
    // Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("folder", &self.folder)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// Opens or makes a cache in `folder` that takes at most `max_bytes` on disk.
    ///
    /// # Errors
    ///
    /// [`Error::Cache`] if folder or key cannot be made or read.
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Cache { path: folder.to_owned(), reason: error.to_string() };
        make_folder(folder).map_err(failed)?;
        let key = read_key(&folder.join(KEY_FILE)).or_else(|_| make_key(folder)).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), key, max_bytes })
    }

    /// The native code of the prepared module with the BLAKE3 hash `prepared`, if this user has compiled it for this machine. A
    /// file that is not what was written is removed.
    pub fn get(&self, prepared: &[u8; 32]) -> Option<Bytes> {
        let id = id(prepared);
        let path = self.path(&id);
        let mut bytes = Vec::new();
        let file = File::open(&path).ok()?;
        (&file).read_to_end(&mut bytes).ok()?;
        let Some(artifact) = self.verify(&id, bytes) else {
            // If it cannot be removed, it will be replaced.
            let _ = fs::remove_file(&path);
            return None;
        };
        // Only which file goes first depends on it.
        let _ = file.set_modified(SystemTime::now());
        Some(artifact)
    }

    /// Keeps native code: what [`Program::artifact`](super::Program::artifact) gave for the prepared module with that BLAKE3
    /// hash. What is larger than the whole cache is not kept.
    ///
    /// # Errors
    ///
    /// [`Error::Cache`] if it cannot be written.
    pub fn put(&self, prepared: &[u8; 32], artifact: &[u8]) -> Result<(), Error> {
        if (HEADER + artifact.len()) as u64 > self.max_bytes {
            return Ok(());
        }
        let id = id(prepared);
        let path = self.path(&id);
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder)?;
            file.write_all(MAGIC)?;
            file.write_all(self.tag(&id, artifact).as_bytes())?;
            file.write_all(artifact)?;
            file.persist(&path).map_err(|error| error.error)?;
            self.evict()
        };
        write().map_err(|error| Error::Cache { path: path.clone(), reason: error.to_string() })
    }

    fn path(&self, id: &blake3::Hash) -> PathBuf {
        self.folder.join(id.to_hex().as_str())
    }

    fn tag(&self, id: &blake3::Hash, artifact: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key).update(id.as_bytes()).update(artifact).finalize()
    }

    fn verify(&self, id: &blake3::Hash, file: Vec<u8>) -> Option<Bytes> {
        let mut bytes = Bytes::from(file);
        let artifact = bytes.len().checked_sub(HEADER).map(|_| bytes.split_off(HEADER))?;
        let (magic, tag) = bytes.split_at(MAGIC.len());
        let tag = blake3::Hash::from_bytes(tag.try_into().expect("the header is magic and tag"));
        // Comparing hashes takes the same time wherever they differ.
        (magic == MAGIC && self.tag(id, &artifact) == tag).then_some(artifact)
    }

    /// Removes files, those first that were not used for longest, until the rest is small enough. What a crash has left behind
    /// counts, too.
    fn evict(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // One that is gone was removed by another process.
            if let Ok(about) = entry.metadata()
                && about.is_file()
                && entry.file_name() != KEY_FILE
            {
                files.push((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), entry.path()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|file| file.1).sum();
        for (_, length, path) in files {
            if total <= self.max_bytes {
                break;
            }
            let _ = fs::remove_file(path);
            total -= length;
        }
        Ok(())
    }
}

fn id(prepared: &[u8; 32]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_derive_key("CONUN 2026-11 compiled program: prepared hash, profile, engine");
    hasher.update(prepared);
    for name in [PROFILE, engine_id()] {
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
    }
    hasher.finalize()
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Reads a key that nobody but this user could have read.
fn read_key(path: &Path) -> io::Result<[u8; blake3::KEY_LEN]> {
    let mut file = File::open(path)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can read the key"));
    }
    let mut key = Vec::new();
    (&mut file).take(blake3::KEY_LEN as u64 + 1).read_to_end(&mut key)?;
    key.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the key has not 32 bytes"))
}

/// Makes a new key in place of one that is missing or of no use; whatever is in the cache will be compiled again.
fn make_key(folder: &Path) -> io::Result<[u8; blake3::KEY_LEN]> {
    let path = folder.join(KEY_FILE);
    let mut key = [0; blake3::KEY_LEN];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    // The temporary file is this user's alone (mode 0600) from its first moment.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(&key)?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(key),
        // Another process was faster, or the old one is of no use.
        Err(error) => match read_key(&path) {
            Ok(key) => Ok(key),
            Err(_) => error.file.persist(&path).map(|_| key).map_err(|error| error.error),
        },
    }
}
