//! Which blobs stay.
//!
//! Each blob has a tag whose name is its hash and the time of its last use. What has no tag is deleted by the store itself, once it is
//! told to sweep; so that a crash in between leaves a blob too many and never one too few.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use iroh_blobs::{
    Hash,
    api::{Store, blobs::BlobStatus, tags::TagInfo},
    store::{
        GcConfig, ProtectOutcome,
        fs::{FsStore, options::Options},
    },
};
use redb::{Database, DatabaseError, StorageError};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::lent::Lent;
use crate::manifest::BlobHash;

/// The store's metadata, in its folder.
const DATABASE: &str = "blobs.db";

/// What the name of a damaged store's folder gets.
const ASIDE: &str = "damaged";

/// Most time in which whoever has the store open lets go of it.
const HANDOVER: Duration = Duration::from_secs(10);

/// Most time that a sweep takes; it goes on if it takes longer, unless it has failed.
const SWEEP: Duration = Duration::from_secs(120);

/// A use within this time of one that is noted is not noted again: a tag is written to disk.
const NOTED: Duration = Duration::from_secs(600);

/// A store, and what is known of when its blobs were used.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) store: FsStore,
    /// What is served beside it.
    pub(super) lent: Lent,
    /// Asks for a sweep, and has its end told.
    sweeps: mpsc::Sender<oneshot::Sender<()>>,
    noted: Mutex<HashMap<Hash, Instant>>,
    /// The file of its metadata.
    database: PathBuf,
}

/// What [`Node::clean`](super::Node::clean) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Blobs that were dropped.
    pub dropped: usize,
    /// Bytes of them.
    pub dropped_bytes: u64,
    /// Bytes of blobs that are left.
    pub bytes: u64,
}

/// What a failure of the store is told as.
type Reason = String;

fn reason(error: impl std::fmt::Display) -> Reason {
    error.to_string()
}

/// A tag's name: the hash, then the time in microseconds, so that one blob's tags are in the order of time.
fn name(hash: Hash, micros: u64) -> Vec<u8> {
    [&hash.as_bytes()[..], &micros.to_be_bytes()].concat()
}

/// The time in a tag's name; one without is of long ago.
fn time(name: &[u8]) -> u64 {
    name.get(32..).and_then(|time| time.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Why the store in a folder cannot be used again, whatever is done about disk and rights; none if that may not be so.
async fn damage(folder: &Path) -> Option<Reason> {
    let path = folder.join(DATABASE);
    // redb may panic over what no redb has written.
    let opening = spawn_blocking(move || Database::open(path).map(drop)).await;
    match opening {
        Err(panic) => Some(reason(panic)),
        // Then something else in it is.
        Ok(Ok(())) => Some("its database has other contents than expected".to_owned()),
        Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
            if !matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) =>
        {
            None
        }
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => None,
        Ok(Err(error)) => Some(reason(error)),
    }
}

/// Waits until nobody has the database open. The data folder is this process's alone: who has it is a life before that is being closed,
/// or a worker's process that is just being started.
async fn handed_over(database: &Path) {
    let free = async {
        while let Ok(file) = File::open(database)
            && let Err(TryLockError::WouldBlock) =
                file.try_lock().and_then(|()| file.unlock().map_err(TryLockError::Error))
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    // Opening it tells what is wrong.
    let _ = timeout(HANDOVER, free).await;
}

/// Renames the folder of a store that is of no use any more, in place of the one before, and makes an empty one. Where it is then.
pub(super) fn set_aside(folder: &Path) -> io::Result<PathBuf> {
    let aside = folder.with_extension(ASIDE);
    match std::fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::rename(folder, &aside)?;
    std::fs::create_dir_all(folder)?;
    Ok(aside)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

impl Cache {
    /// Opens the store in a folder. One that is damaged is [set aside](set_aside), and an empty one begun; then the second says so.
    pub(super) async fn load(folder: &Path) -> Result<(Self, Option<Reason>), Reason> {
        handed_over(&folder.join(DATABASE)).await;
        let failure = match Self::open(folder).await {
            Ok(cache) => return Ok((cache, None)),
            Err(failure) => failure,
        };
        let Some(damage) = damage(folder).await else { return Err(failure) };
        let aside = set_aside(folder).map_err(reason)?;
        let text = format!(
            "the blob store in {} is damaged ({damage}) and set aside as {}, which may be deleted: what it had is fetched or made \
             anew where it is needed",
            folder.display(),
            aside.display()
        );
        Ok((Self::open(folder).await?, Some(text)))
    }

    /// Opens the store in a folder, with a sweeper that waits to be asked.
    async fn open(folder: &Path) -> Result<Self, Reason> {
        let (sweeps, asked) = mpsc::channel::<oneshot::Sender<()>>(1);
        let asked = Arc::new(tokio::sync::Mutex::new((asked, None::<oneshot::Sender<()>>)));
        let loaded = Arc::new(Mutex::new(None::<Store>));
        let mut options = Options::new(folder);
        let store = loaded.clone();
        options.gc = Some(GcConfig {
            interval: Duration::from_millis(1),
            add_protected: Some(Arc::new(move |_| {
                let (asked, store) = (asked.clone(), store.clone());
                Box::pin(async move {
                    let mut asked = asked.lock().await;
                    if let Some(done) = asked.1.take() {
                        // Whoever asked may have given up.
                        let _ = done.send(());
                    }
                    match asked.0.recv().await {
                        Some(done) => {
                            asked.1 = Some(done);
                            ProtectOutcome::Continue
                        }
                        // The node is gone, maybe without a word: what the sweeper has of the store must not keep it open. Of a store
                        // that is closed the sweep fails, and with it the sweeper and the store's threads end.
                        None => {
                            // Taken out: the store has this closure, and would never end.
                            let store = store.lock().unwrap_or_else(PoisonError::into_inner).take();
                            if let Some(store) = store {
                                let _ = tokio::spawn(async move { store.shutdown().await }).await;
                            }
                            ProtectOutcome::Continue
                        }
                    }
                })
            })),
        });
        let store = FsStore::load_with_opts(folder.join(DATABASE), options).await.map_err(reason)?;
        *loaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.clone().into());
        Ok(Self { store, lent: Lent::default(), sweeps, noted: Mutex::default(), database: folder.join(DATABASE) })
    }

    /// A blob that is completely here. The store checks what it reads: one that is not what its hash says, since the power went before
    /// its file was on the disk, is dropped.
    pub(super) async fn read(&self, hash: Hash) -> Result<Option<Bytes>, Reason> {
        let blobs = self.store.blobs();
        if !blobs.has(hash).await.map_err(reason)? {
            return Ok(None);
        }
        let failure = match blobs.get_bytes(hash).await {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(failure) => failure,
        };
        // Where the store has failed, or no file can be opened, it is not the blob's fault.
        blobs.has(hash).await.map_err(reason)?;
        File::open(&self.database).map_err(reason)?;
        tracing::warn!(target: "conun::net", %hash, %failure, "a blob is damaged: it is dropped");
        self.noted().remove(&hash);
        self.store.tags().delete_prefix(hash.as_bytes()).await.map_err(reason)?;
        self.sweep().await?;
        Ok(None)
    }

    /// Whether a blob can be served; a store that fails has nothing to give.
    pub(super) async fn has(&self, hash: Hash) -> bool {
        self.lent.has(&hash) || self.store.blobs().has(hash).await.unwrap_or(false)
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, HashMap<Hash, Instant>> {
        // Nothing here can fail half-way.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a blob is used now, whether it is here or about to be.
    pub(super) async fn touch(&self, hash: Hash) -> Result<(), Reason> {
        if self.noted().get(&hash).is_some_and(|noted| noted.elapsed() < NOTED) {
            return Ok(());
        }
        let name = name(hash, now());
        self.store.tags().set(&name, hash).await.map_err(reason)?;
        self.store.tags().delete_range(hash.as_bytes().to_vec()..name).await.map_err(reason)?;
        self.noted().insert(hash, Instant::now());
        Ok(())
    }

    /// Drops blobs that are not `pinned`, the least recently used first, if there are more than `most` bytes of all: down to nine
    /// tenths of that, so that it does not begin again at once.
    pub(super) async fn clean(&self, most: u64, pinned: &HashSet<BlobHash>) -> Result<Cleaned, Reason> {
        let mut used: BTreeMap<Hash, u64> = BTreeMap::new();
        let mut tags = self.tags().await?;
        while let Some(tag) = tags.next().await {
            let tag = tag.map_err(reason)?;
            let latest = used.entry(tag.hash).or_default();
            *latest = time(tag.name.as_ref()).max(*latest);
        }
        drop(tags);
        let mut blobs = Vec::with_capacity(used.len());
        for (hash, used) in used {
            let size = match self.store.blobs().status(hash).await.map_err(reason)? {
                BlobStatus::Complete { size } => size,
                BlobStatus::Partial { .. } => self.store.blobs().observe(hash).await.map_err(reason)?.total_bytes(),
                BlobStatus::NotFound => 0,
            };
            blobs.push((used, hash, size));
        }
        let mut cleaned = Cleaned { bytes: blobs.iter().map(|(.., size)| size).sum(), ..Cleaned::default() };
        if cleaned.bytes <= most {
            return Ok(cleaned);
        }
        blobs.sort_unstable();
        let goal = most / 10 * 9;
        for (_, hash, size) in blobs {
            if cleaned.bytes <= goal {
                break;
            }
            if !pinned.contains(hash.as_bytes()) {
                self.noted().remove(&hash);
                self.store.tags().delete_prefix(hash.as_bytes()).await.map_err(reason)?;
                cleaned.bytes -= size;
                cleaned.dropped += 1;
                cleaned.dropped_bytes += size;
            }
        }
        self.noted().retain(|_, noted| noted.elapsed() < NOTED);
        self.sweep().await?;
        Ok(cleaned)
    }

    async fn tags(&self) -> Result<impl Stream<Item = iroh_blobs::api::Result<TagInfo>> + Unpin, Reason> {
        self.store.tags().list().await.map(Box::pin).map_err(reason)
    }

    /// Has the store delete what has no tag.
    async fn sweep(&self) -> Result<(), Reason> {
        let sweeping = async {
            let (done, swept) = oneshot::channel();
            self.sweeps.send(done).await.ok()?;
            swept.await.ok()
        };
        // A sweeper that has failed says nothing more, and keeps what it was asked with.
        let swept = timeout(SWEEP, sweeping).await.map_err(|_| format!("no sweep has ended within {SWEEP:?}"))?;
        swept.ok_or_else(|| "its sweeper has ended".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_ever_for_a_sweeper_that_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, _) = Cache::load(folder.path()).await.unwrap();
        cache.sweep().await.unwrap();
        // Of a store that is closed no sweep succeeds, and the sweeper ends.
        cache.store.shutdown().await.unwrap();
        tokio::time::pause();
        for _ in 0..3 {
            let failed = cache.sweep().await.unwrap_err();
            assert!(failed.contains("sweep"), "{failed}");
        }
    }
}
