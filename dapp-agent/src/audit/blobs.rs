//! Where an auditor has its bytes from: files of its own, a data folder's store, and peers, as far as the chain lets it have them.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use alloy::primitives::{Address, hex};
use bytes::Bytes;

use super::{Error, io_error};
use crate::{
    access::Access,
    chain::{Head, Index, JobEntry},
    manifest::{BlobHash, blob_hash},
    net::{NetworkSettings, Node, NodeConfig, PeerContact, Rights, Share},
    store::Journal,
};

/// Larger files are no blob of a job.
const MOST_BYTES: u64 = 64 << 20;

/// A requester's or provider's data folder, opened.
#[derive(Debug)]
struct Own {
    node: Node,
    /// Keeps other processes out.
    _journal: Journal,
}

/// All places that bytes may come from.
#[derive(Debug, Default)]
pub struct Blobs {
    files: HashMap<BlobHash, PathBuf>,
    own: Option<Own>,
    saved: Option<PathBuf>,
}

/// What is wanted of a job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// Program or input manifest.
    Job,
    /// A task's input, or a file that all tasks share.
    Input { private: bool, task: Option<u32> },
    /// A result manifest, or an output that it names, of these providers.
    Result { manifest: &'a BlobHash, makers: &'a [Address] },
}

impl Wanted<'_> {
    /// Who may have it, by decision 19.
    fn rule(self) -> &'static str {
        match self {
            Self::Job | Self::Input { private: false, .. } => {
                "providers give it to the job's requester, to whoever has had a part in it, and, until it is over, to every registered provider"
            }
            Self::Input { private: true, .. } => {
                "the job is private: providers give its inputs to its requester and to those who hold their batch"
            }
            Self::Result { .. } => {
                "providers give results to the job's requester, and to the registered providers who have voted on the batch or challenge it"
            }
        }
    }

    fn is_granted(self, entry: &JobEntry, hash: &BlobHash, rights: &Rights) -> bool {
        let Rights::Some { blobs, named } = rights else { return true };
        match self {
            Self::Job => blobs.contains(hash),
            Self::Result { manifest, .. } => blobs.contains(manifest),
            Self::Input { private, task } => named.iter().any(|(manifest, share)| match share {
                Share::Inputs { public, tasks } if *manifest == entry.spec.inputs.0 => match (private, task) {
                    (false, _) => *public,
                    (true, None) => !tasks.is_empty(),
                    (true, Some(task)) => tasks.iter().any(|tasks| tasks.contains(&task)),
                },
                _ => false,
            }),
        }
    }
}

/// What the chain lets this endpoint have.
pub(super) struct Chain<'a> {
    pub(super) index: &'a Index,
    pub(super) head: Head,
    /// What each account gives, as its agent works it out.
    given: Mutex<HashMap<Address, Access>>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(index: &'a Index, head: Head) -> Self {
        Self { index, head, given: Mutex::default() }
    }

    fn grants(
        &self,
        account: Address,
        endpoint: &[u8; 32],
        entry: &JobEntry,
        wanted: Wanted<'_>,
        hash: &BlobHash,
    ) -> bool {
        // Nothing here can fail half-way.
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let access = given.entry(account).or_insert_with(|| {
            let access = Access::new(account);
            access.look(self.head, self.index);
            access
        });
        access.rights(endpoint).is_some_and(|rights| wanted.is_granted(entry, hash, &rights))
    }

    /// Who gives it to an endpoint.
    fn givers(&self, endpoint: &[u8; 32], entry: &JobEntry, wanted: Wanted<'_>, hash: &BlobHash) -> Vec<PeerContact> {
        let contact = |account: &Address| self.index.providers.get(account).map(|provider| provider.contact.clone());
        let mut seen = HashSet::new();
        let holders: Vec<(Address, Option<PeerContact>)> = match wanted {
            Wanted::Result { makers, .. } => makers.iter().map(|maker| (*maker, contact(maker))).collect(),
            _ => {
                let others = entry.accounts().filter(|account| !account.is_zero() && seen.insert(*account));
                let others = others.map(|account| (account, contact(&account)));
                std::iter::once((entry.job.requester, Some(entry.contact.clone()))).chain(others).collect()
            }
        };
        let may = |account: Address| self.grants(account, endpoint, entry, wanted, hash);
        let mut found: Vec<PeerContact> = Vec::new();
        for (_, contact) in holders.into_iter().filter(|(account, _)| may(*account)) {
            found.extend(contact.filter(|contact| {
                contact.endpoint != *endpoint && found.iter().all(|known| known.endpoint != contact.endpoint)
            }));
        }
        found
    }
}

impl Blobs {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what is in a folder, and in those below it. Names do not matter: files are found by what is in them. Returns how many there are.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn add_folder(&mut self, folder: &Path) -> Result<usize, Error> {
        let mut count = 0;
        for entry in fs::read_dir(folder).map_err(io_error(folder))? {
            let entry = entry.map_err(io_error(folder))?;
            let path = entry.path();
            // Links to folders may lead in a circle.
            if entry.file_type().map_err(io_error(&path))?.is_dir() {
                count += self.add_folder(&path)?;
                continue;
            }
            match fs::metadata(&path) {
                Ok(found) if found.is_file() && found.len() <= MOST_BYTES => {}
                // A link that leads nowhere is no blob either.
                _ => continue,
            }
            self.files.insert(blob_hash(&fs::read(&path).map_err(io_error(&path))?), path);
            count += 1;
        }
        Ok(count)
    }

    /// Takes what is in the store of a requester's or provider's data folder, and asks peers as that one.
    ///
    /// # Errors
    /// If another process has it open, or the endpoint cannot start.
    pub async fn open(&mut self, folder: &Path, bind: SocketAddr, network: NetworkSettings) -> Result<(), Error> {
        let journal = Journal::open(folder)?;
        let node = Node::start(NodeConfig { data_dir: folder.to_owned(), bind, network }).await?;
        self.own = Some(Own { node, _journal: journal });
        Ok(())
    }

    /// Writes each blob that is used to a file in this folder, named by its hash.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn save_to(&mut self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        self.saved = Some(folder.to_owned());
        Ok(())
    }

    /// A blob of at most `most` bytes. Whatever it comes from, it has that hash.
    ///
    /// # Errors
    /// A sentence that says why it cannot be had, and what to do.
    pub(super) async fn get(
        &self,
        chain: &Chain<'_>,
        entry: &JobEntry,
        wanted: Wanted<'_>,
        (hash, most): (&BlobHash, u64),
    ) -> Result<Bytes, String> {
        let bytes = self.find(chain, entry, wanted, (hash, most)).await?;
        if let Some(folder) = &self.saved {
            let path = folder.join(hex::encode(hash));
            if !path.exists() {
                // Whole or not at all: what is there is not written again.
                let part = path.with_extension("part");
                let written = fs::write(&part, &bytes).and_then(|()| fs::rename(&part, &path));
                written.map_err(|error| io_error(&path)(error).to_string())?;
            }
        }
        Ok(bytes)
    }

    async fn find(
        &self,
        chain: &Chain<'_>,
        entry: &JobEntry,
        wanted: Wanted<'_>,
        (hash, most): (&BlobHash, u64),
    ) -> Result<Bytes, String> {
        if let Some(path) = self.files.get(hash) {
            match read(path, hash, most) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    tracing::warn!(target: "conun::audit", path = %path.display(), %error, "a file is passed over")
                }
            }
        }
        let name = hex::encode(hash);
        let Some(Own { node, .. }) = &self.own else {
            return Err(format!(
                "blob {name} is in no --folder, and there is no data folder with whose endpoint peers could be asked: give that of the \
                 requester or of a registered provider with --data-dir"
            ));
        };
        if let Some(bytes) = node.look_at(hash).await.map_err(|error| error.to_string())?
            && bytes.len() as u64 <= most
            && blob_hash(&bytes) == *hash
        {
            return Ok(bytes);
        }
        let peers = chain.givers(&node.contact().endpoint, entry, wanted, hash);
        if peers.is_empty() {
            return Err(format!(
                "blob {name} is not here, and no peer gives it to this endpoint: {}. Have one of those write it with `conun audit --save DIR`, \
                 and give that with --folder",
                wanted.rule()
            ));
        }
        let fetched = node.fetch(hash, &peers, most).await;
        fetched.map_err(|error| format!("{error}; try again when one of them is there, or give it with --folder"))
    }

    /// Closes the data folder.
    pub(super) async fn close(&self) {
        if let Some(own) = &self.own {
            own.node.shutdown().await;
        }
    }
}

/// A file, if it still is what it was.
fn read(path: &Path, hash: &BlobHash, most: u64) -> io::Result<Bytes> {
    let bytes = Bytes::from(fs::read(path)?);
    if blob_hash(&bytes) != *hash {
        return Err(io::Error::other("it has changed since it was looked at"));
    }
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has {} bytes where at most {most} are allowed", bytes.len())));
    }
    Ok(bytes)
}
