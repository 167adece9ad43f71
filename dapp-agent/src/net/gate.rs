//! Who is let in, and who may have what.
//!
//! Both are the chain's to say. A request from somebody whom it does not name waits a moment: the block that names it may be known to
//! the other side alone.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use iroh_blobs::Hash;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use super::{Book, cache::Cache, wire::Refusal, wire::Report};
use crate::manifest::{BlobHash, InputManifest, ResultManifest};

/// Most time that a request waits for the chain to allow it: less than its asker waits for the first byte.
const PATIENCE: Duration = Duration::from_secs(3);

/// Most requests that wait for it at once; more are refused without a wait.
const MAX_WAITING: usize = 64;

/// Most hashes kept of manifests that were looked into: 150 MB, which takes jobs of four million tasks.
const MAX_LISTED: usize = 4 << 20;

/// Decides who may connect and what each may have, and takes what they tell.
pub trait Gate: fmt::Debug + Send + Sync + 'static {
    /// What an endpoint may have, if the chain knows it as somebody's who may have to do with this one.
    fn rights(&self, endpoint: &[u8; 32]) -> Option<Arc<Rights>>;

    /// Changes whenever `rights` may say something new.
    fn news(&self) -> watch::Receiver<()>;

    /// Who gossips with this endpoint; none if it takes no part in that.
    fn book(&self) -> Option<Arc<Book>> {
        None
    }

    /// Takes a report from an endpoint. It may block.
    ///
    /// # Errors
    /// If the report is not wanted; the reporter is told why.
    fn take(&self, endpoint: &[u8; 32], report: Report) -> Result<(), Refusal>;
}

/// What an endpoint may have of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Every blob.
    All,
    /// These alone.
    Some {
        /// Blobs by their own hash.
        blobs: HashSet<BlobHash>,
        /// Blobs that manifests name.
        named: Vec<(BlobHash, Share)>,
    },
}

/// How much of what a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// Of an input manifest.
    Inputs {
        /// Whether all of it, unless the job is private.
        public: bool,
        /// If it is: inputs of these tasks, and shared files if there are any.
        tasks: Vec<Range<u32>>,
    },
    /// Of a result manifest: all outputs.
    Outputs,
}

/// The hashes that a manifest names.
#[derive(Debug)]
struct Listing {
    private: bool,
    files: Vec<BlobHash>,
    /// With their tasks, in order.
    tasks: Vec<(BlobHash, u32)>,
}

impl Listing {
    fn read(bytes: &[u8], share: &Share) -> Option<Self> {
        let mut listing = match share {
            Share::Inputs { .. } => {
                let manifest = InputManifest::decode(bytes).ok()?;
                let files = manifest.files.iter().map(|file| file.hash).collect();
                let tasks = manifest.tasks.iter().map(|input| input.hash).zip(0..).collect();
                Self { private: manifest.private, files, tasks }
            }
            Share::Outputs => {
                let manifest = ResultManifest::decode(bytes).ok()?;
                let tasks = manifest.results.iter().map(|result| result.output.hash).zip(0..).collect();
                Self { private: false, files: Vec::new(), tasks }
            }
        };
        listing.tasks.sort_unstable();
        Some(listing)
    }

    /// If it names a blob: whether that may be had.
    fn grants(&self, hash: &BlobHash, share: &Share) -> Option<bool> {
        let first = self.tasks.partition_point(|(other, _)| other < hash);
        let mut tasks =
            self.tasks[first..].iter().take_while(|(other, _)| other == hash).map(|(_, task)| task).peekable();
        let is_file = self.files.contains(hash);
        if tasks.peek().is_none() && !is_file {
            return None;
        }
        Some(match share {
            Share::Inputs { tasks: own, .. } if self.private => {
                is_file && !own.is_empty() || tasks.any(|task| own.iter().any(|tasks| tasks.contains(task)))
            }
            Share::Inputs { public, .. } => *public,
            Share::Outputs => true,
        })
    }

    fn len(&self) -> usize {
        self.files.len() + self.tasks.len()
    }
}

/// The gate as protocols pass it.
#[derive(Debug)]
pub(super) struct Door {
    /// Nobody is let in without one.
    gate: OnceLock<Arc<dyn Gate>>,
    cache: Arc<Cache>,
    /// By the manifest's hash: what it names never changes.
    listings: Mutex<HashMap<BlobHash, Arc<Listing>>>,
    waiting: Semaphore,
}

impl Door {
    pub(super) fn new(cache: Arc<Cache>) -> Self {
        Self { gate: OnceLock::new(), cache, listings: Mutex::default(), waiting: Semaphore::new(MAX_WAITING) }
    }

    /// Whether it is the first gate, which stays.
    pub(super) fn open(&self, gate: Arc<dyn Gate>) -> bool {
        self.gate.set(gate).is_ok()
    }

    pub(super) fn gate(&self) -> Option<&Arc<dyn Gate>> {
        self.gate.get()
    }

    /// Whether a peer is let in, now.
    pub(super) fn admits(&self, peer: &[u8; 32]) -> bool {
        self.gate().is_some_and(|gate| gate.rights(peer).is_some())
    }

    /// Whether a peer may have a blob, now.
    pub(super) async fn grants(&self, peer: &[u8; 32], hash: &BlobHash) -> bool {
        let Some(rights) = self.gate().and_then(|gate| gate.rights(peer)) else { return false };
        let Rights::Some { blobs, named } = &*rights else { return true };
        let mut granted = blobs.contains(hash);
        for (manifest, share) in named {
            let Some(listing) = self.listing(manifest, share).await else { continue };
            match listing.grants(hash, share) {
                // Else whoever knows its hash could have it by a job of its own that names it.
                Some(false) if listing.private => return false,
                Some(grants) => granted |= grants,
                None => {}
            }
        }
        granted
    }

    /// Whether a peer is let in, or may have a blob: now, or as soon as the chain says so, if that is within [`PATIENCE`].
    pub(super) async fn will_allow(&self, peer: &[u8; 32], blob: Option<&BlobHash>) -> bool {
        let Some(gate) = self.gate() else { return false };
        let mut news = gate.news();
        if self.allows(peer, blob).await {
            return true;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return false };
        let waiting = async {
            while news.changed().await.is_ok() {
                if self.allows(peer, blob).await {
                    return true;
                }
            }
            false
        };
        timeout(PATIENCE, waiting).await.unwrap_or(false)
    }

    async fn allows(&self, peer: &[u8; 32], blob: Option<&BlobHash>) -> bool {
        match blob {
            Some(hash) => self.grants(peer, hash).await,
            None => self.admits(peer),
        }
    }

    fn listings(&self) -> std::sync::MutexGuard<'_, HashMap<BlobHash, Arc<Listing>>> {
        // Nothing here can fail half-way.
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a manifest names, if it is here.
    async fn listing(&self, manifest: &BlobHash, share: &Share) -> Option<Arc<Listing>> {
        if let Some(listing) = self.listings().get(manifest) {
            return Some(listing.clone());
        }
        let hash = Hash::from_bytes(*manifest);
        if !self.cache.has(hash).await {
            return None;
        }
        let bytes = match self.cache.lent.read(&hash).await {
            Some(bytes) => bytes,
            None => self.cache.store.blobs().get_bytes(hash).await.ok()?,
        };
        let share = share.clone();
        let read = tokio::task::spawn_blocking(move || Listing::read(&bytes, &share)).await;
        let listing = Arc::new(read.ok()??);
        let mut listings = self.listings();
        let mut room = MAX_LISTED.saturating_sub(listing.len());
        listings.retain(|_, other| {
            let fits = other.len() <= room;
            room -= if fits { other.len() } else { 0 };
            fits
        });
        listings.insert(*manifest, listing.clone());
        Some(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{SharedFile, TaskInput};

    fn inputs(private: bool) -> Vec<u8> {
        let file = SharedFile { path: "a".to_owned(), hash: [9; 32], length: 1 };
        // Tasks 0 and 3 have the same input.
        let input = |number| TaskInput { hash: [number; 32], length: 1, root: Default::default() };
        let tasks = [2, 1, 3, 2].map(input).to_vec();
        InputManifest { private, files: vec![file], tasks, ..InputManifest::default() }.encode()
    }

    #[test]
    fn of_a_private_job_only_inputs_of_ones_own_tasks_are_granted() {
        let granted = |private, own: &[(u32, u32)]| {
            let share = Share::Inputs { public: true, tasks: own.iter().map(|(from, to)| *from..*to).collect() };
            let listing = Listing::read(&inputs(private), &share).unwrap();
            assert_eq!(listing.grants(&[8; 32], &share), None);
            [1, 2, 3, 9].map(|number| listing.grants(&[number; 32], &share).unwrap())
        };
        assert_eq!(granted(false, &[]), [true; 4]);
        assert_eq!(granted(true, &[]), [false; 4]);
        assert_eq!(granted(true, &[(1, 2)]), [true, false, false, true]);
        assert_eq!(granted(true, &[(3, 4)]), [false, true, false, true]);
        assert_eq!(granted(true, &[(0, 1), (2, 4)]), [false, true, true, true]);
        let share = Share::Inputs { public: false, tasks: Vec::new() };
        assert_eq!(Listing::read(&inputs(false), &share).unwrap().grants(&[1; 32], &share), Some(false));
        // A manifest of another kind names nothing.
        assert!(Listing::read(&inputs(false), &Share::Outputs).is_none());
    }
}
