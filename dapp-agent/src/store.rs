//! The journal: what the agent is about to do, durable before it does it.
//!
//! A lease's intent is written before its transaction, a result before its submission. After a crash at any point the chain
//! says which batches are held, and the journal which results there are: none is computed twice, and no lease ever gets two
//! different roots, nor two different commitments: a result's salt is kept with it.

mod file;

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use alloy::primitives::B256;
use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition};
use serde::{Deserialize, Serialize};

use file::JournalFile;

use crate::{
    chain::Sent,
    files::{FileError, io_error},
};

/// The journal in a data folder.
const FILE: &str = "journal.redb";

/// Job id ‖ batch (big-endian) -> block number at the time of the intent.
const LEASES: TableDefinition<'_, &[u8], u64> = TableDefinition::new("leases");

/// Job id ‖ batch (big-endian) -> [`ResultRecord`] as JSON.
const RESULTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("results");

/// 0 -> the latest transactions sent, as JSON.
const SENT: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("sent");

/// A batch's result, ready to be submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRecord {
    /// Result root.
    pub root: B256,
    /// Total fuel.
    pub fuel: u64,
    /// BLAKE3 hash of the result manifest.
    pub outputs: B256,
    /// Root of the tree that binds the result to its maker, where there is a vote; else zero.
    #[serde(default)]
    pub bound: B256,
    /// What keeps a commitment to it secret.
    #[serde(default)]
    pub salt: Salt,
}

impl ResultRecord {
    /// Whether both say the same about the batch, whatever their salts.
    pub fn agrees_with(&self, other: &Self) -> bool {
        Self { salt: other.salt, ..*self } == *other
    }
}

/// 32 random bytes, never shown in logs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Salt(pub B256);

impl Salt {
    /// A new one.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes.into()))
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has it open.
    #[error("{0} is in use by another agent: stop that one, or give this one a folder of its own with --data-dir")]
    InUse(PathBuf),
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was kept cannot be read. To go on without it could mean a second, different commitment or transaction.
    #[error(
        "the journal in {path} has an entry of {table} that cannot be read: it is damaged, or of another version; restore it from a backup, or use the version that wrote it"
    )]
    Malformed {
        /// Its folder.
        path: PathBuf,
        /// Which table.
        table: &'static str,
    },
    /// The database failed.
    #[error("the journal in {path} failed: {source}")]
    Database {
        /// Its folder.
        path: PathBuf,
        /// What it said.
        source: Box<redb::Error>,
    },
}

/// Opens the database in a file that is locked already.
type Opener = Box<dyn Fn(File) -> Result<Database, redb::Error> + Send + Sync>;

/// The open journal of a data folder; only one process has it.
///
/// After a failure of the disk the database is closed, and opened anew by whoever needs it next: what it says then is what has
/// become durable.
pub struct Journal {
    database: Mutex<State>,
    open: Opener,
    folder: PathBuf,
    /// As long as this lives, whatever becomes of the database; dropped last.
    file: Locked,
}

/// The database and how it is doing.
#[derive(Default)]
struct State {
    /// None after a failure.
    database: Option<Database>,
    /// What the last attempt to use it failed with, if it did.
    failure: Option<String>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn key(job: B256, batch: u32) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(job.as_slice());
    key[32..].copy_from_slice(&batch.to_be_bytes());
    key
}

fn database_error(folder: &Path) -> impl FnOnce(redb::Error) -> Error {
    let path = folder.to_owned();
    move |source| Error::Database { path, source: Box::new(source) }
}

/// A file that this process alone has open.
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // A worker's process that is just being started may have the file as well. Where this fails, the lock ends with both.
        let _ = self.0.unlock();
    }
}

/// Opens a file of `folder` for one process alone.
fn lock(folder: &Path, path: &Path, options: &OpenOptions) -> Result<Locked, Error> {
    let file = options.open(path).map_err(io_error(path))?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Error::InUse(folder.to_owned()),
        TryLockError::Error(source) => io_error(path)(source).into(),
    })?;
    Ok(Locked(file))
}

fn writing() -> OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options
}

/// Makes the journal aside and puts it in its place once it is whole: half a database could not be opened again.
fn make(folder: &Path, path: &Path, open: &Opener) -> Result<Locked, Error> {
    let aside = path.with_extension("new");
    let locked = lock(folder, &aside, &writing())?;
    // Another process may have been faster.
    if path.exists() {
        return lock(folder, path, &writing());
    }
    let Locked(file) = &locked;
    file.set_len(0).map_err(io_error(&aside))?;
    file.try_clone().map_err(redb::Error::Io).and_then(open).map_err(database_error(folder))?;
    let placed = file.sync_all().and_then(|()| std::fs::rename(&aside, path));
    placed.and_then(|()| File::open(folder)?.sync_all()).map_err(io_error(path))?;
    Ok(locked)
}

impl Journal {
    /// Opens the journal in `folder`, making both if need be.
    ///
    /// # Errors
    /// [`Error::InUse`] if another process has it; otherwise what the file system or the database says.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        Self::open_on(folder, JournalFile::new)
    }

    /// The same on a storage of its own making: `storage` is given the journal's file, once now and once after each failure.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_on<S: StorageBackend>(
        folder: &Path,
        storage: impl Fn(File) -> Result<S, redb::DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(io_error(folder))?;
        let open: Opener = Box::new(move |file| {
            let database = Database::builder().create_with_backend(storage(file)?)?;
            let transaction = database.begin_write()?;
            transaction.open_table(LEASES)?;
            transaction.open_table(RESULTS)?;
            transaction.open_table(SENT)?;
            transaction.commit()?;
            Ok(database)
        });
        let path = folder.join(FILE);
        let file = if path.exists() { lock(folder, &path, &writing())? } else { make(folder, &path, &open)? };
        let journal = Self { database: Mutex::default(), open, folder: folder.to_owned(), file };
        journal.with(|_| Ok(()))?;
        Ok(journal)
    }

    /// Whether a process has the journal of `folder` open.
    pub fn is_in_use(folder: &Path) -> bool {
        matches!(lock(folder, &folder.join(FILE), File::options().read(true)), Err(Error::InUse(_)))
    }

    /// The data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the last attempt to use it failed with, if it did.
    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Tries whether it can be written, as a change would.
    ///
    /// # Errors
    /// If it cannot.
    pub fn probe(&self) -> Result<(), Error> {
        self.write(|transaction| {
            transaction.open_table(SENT)?;
            Ok(())
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic left behind is a database all the same.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses the database, opened anew if it failed before.
    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Error> {
        let mut state = self.state();
        let result = self.opened(&mut state.database).and_then(act);
        if result.is_err() {
            // It takes nothing more after a failure.
            state.database = None;
        }
        let result = result.map_err(database_error(&self.folder));
        state.failure = result.as_ref().err().map(ToString::to_string);
        result
    }

    fn opened<'a>(&self, database: &'a mut Option<Database>) -> Result<&'a Database, redb::Error> {
        match database {
            Some(database) => Ok(database),
            None => Ok(database.insert((self.open)(self.file.0.try_clone()?)?)),
        }
    }

    /// Changes the journal; when it returns, the change is on disk.
    fn write(&self, change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) -> Result<(), Error> {
        self.with(|database| {
            let transaction = database.begin_write()?;
            change(&transaction)?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// Notes that leases of `batches` are about to be asked for.
    ///
    /// # Errors
    /// If the database fails: then nothing may be sent.
    pub fn intend_lease(&self, job: B256, batches: &[u32], block: u64) -> Result<(), Error> {
        self.write(|transaction| {
            let mut table = transaction.open_table(LEASES)?;
            for batch in batches {
                table.insert(&key(job, *batch)[..], block)?;
            }
            Ok(())
        })
    }

    /// Keeps the latest transactions, in place of what was kept before.
    pub(crate) fn keep_sent(&self, sent: &[Sent]) -> Result<(), Error> {
        let text = serde_json::to_vec(sent).expect("a transaction is plain data");
        self.write(|transaction| {
            transaction.open_table(SENT)?.insert(0, &text[..])?;
            Ok(())
        })
    }

    /// The latest transactions; none if none was ever sent.
    pub(crate) fn sent(&self) -> Result<Vec<Sent>, Error> {
        let found = self.with(|database| {
            let table = database.begin_read()?.open_table(SENT)?;
            Ok(table.get(0)?.map(|text| serde_json::from_slice(text.value())))
        })?;
        let found = found.unwrap_or_else(|| Ok(Vec::new()));
        found.map_err(|_| Error::Malformed { path: self.folder.clone(), table: "sent" })
    }

    /// Whether a lease of the batch was ever intended here.
    ///
    /// # Errors
    /// If the database fails.
    pub fn intended(&self, job: B256, batch: u32) -> Result<bool, Error> {
        self.with(|database| Ok(database.begin_read()?.open_table(LEASES)?.get(&key(job, batch)[..])?.is_some()))
    }

    /// Keeps a result. The first one stays: another for the same batch is not taken.
    ///
    /// # Errors
    /// If the database fails: then nothing may be submitted.
    pub fn keep_result(&self, job: B256, batch: u32, record: ResultRecord) -> Result<ResultRecord, Error> {
        if let Some(kept) = self.result(job, batch)? {
            return Ok(kept);
        }
        let text = serde_json::to_vec(&record).expect("a record is plain data");
        self.write(|transaction| {
            transaction.open_table(RESULTS)?.insert(&key(job, batch)[..], &text[..])?;
            Ok(())
        })?;
        Ok(record)
    }

    /// The result kept for a batch.
    ///
    /// # Errors
    /// If the database fails.
    pub fn result(&self, job: B256, batch: u32) -> Result<Option<ResultRecord>, Error> {
        let found = self.with(|database| {
            let table = database.begin_read()?.open_table(RESULTS)?;
            Ok(table.get(&key(job, batch)[..])?.map(|text| serde_json::from_slice(text.value())))
        })?;
        found.transpose().map_err(|_| Error::Malformed { path: self.folder.clone(), table: "results" })
    }
}

#[cfg(test)]
pub(crate) mod tests;
