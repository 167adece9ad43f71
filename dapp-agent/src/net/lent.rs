//! Blobs that are served from files outside of the store, while that takes nothing: a full disk must not keep outputs from those who pay
//! for them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use iroh_blobs::{Hash, api::Store, store::mem::MemStore};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Files that are in memory at once, to be served: one has at most the 16 MiB of a task's output.
const AT_ONCE: usize = 4;

/// The files, by the hashes of their contents.
#[derive(Debug)]
pub(super) struct Lent {
    files: Mutex<HashMap<Hash, PathBuf>>,
    room: Semaphore,
}

impl Default for Lent {
    fn default() -> Self {
        Self { files: Mutex::default(), room: Semaphore::new(AT_ONCE) }
    }
}

impl Lent {
    fn files(&self) -> MutexGuard<'_, HashMap<Hash, PathBuf>> {
        // Nothing here can fail half-way.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lend(&self, hash: Hash, file: PathBuf) {
        self.files().insert(hash, file);
    }

    /// What is in a folder is lent no more.
    pub(super) fn take_back(&self, folder: &Path) {
        self.files().retain(|_, file| !file.starts_with(folder));
    }

    pub(super) fn has(&self, hash: &Hash) -> bool {
        self.files().contains_key(hash)
    }

    /// What a file holds; none if it is lent no more, or is not what its hash says.
    pub(super) async fn read(&self, hash: &Hash) -> Option<Bytes> {
        let file = self.files().get(hash).cloned()?;
        let bytes = Bytes::from(tokio::fs::read(file).await.ok()?);
        (Hash::new(&bytes) == *hash).then_some(bytes)
    }

    /// A store in memory with this blob alone, to be served from as long as the permit is held.
    pub(super) async fn store(&self, hash: &Hash) -> Option<(Store, SemaphorePermit<'_>)> {
        if !self.has(hash) {
            return None;
        }
        let permit = self.room.acquire().await.ok()?;
        let bytes = self.read(hash).await?;
        let store = MemStore::new();
        store.add_bytes(bytes).await.ok()?;
        Some((store.into(), permit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_lent_until_it_is_taken_back_and_only_as_long_as_it_is_what_its_hash_says() {
        let folder = tempfile::tempdir().unwrap();
        let (lent, hash) = (Lent::default(), Hash::new("output"));
        let file = folder.path().join("file");
        std::fs::write(&file, "output").unwrap();
        assert!(lent.store(&hash).await.is_none());
        lent.lend(hash, file.clone());
        assert!(lent.has(&hash));
        let (store, _room) = lent.store(&hash).await.unwrap();
        assert_eq!(store.blobs().get_bytes(hash).await.unwrap(), "output");
        std::fs::write(&file, "outp").unwrap();
        assert_eq!(lent.read(&hash).await, None);
        lent.take_back(&folder.path().join("another"));
        assert!(lent.has(&hash));
        lent.take_back(folder.path());
        assert!(!lent.has(&hash));
    }
}
