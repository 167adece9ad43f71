//! What providers tell of this requester's tasks: a file a job in its data folder, a JSON document a line.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use alloy::primitives::{Address, B256, hex};
use conun_bindings::job;
use conun_vm::MAX_STDERR_BYTES;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    access::Access,
    net::{
        Book, Gate, Rights,
        wire::{Refusal, Report, TaskState},
    },
};

/// Most bytes of a job's log.
const MAX_LOG: u64 = 16 << 20;

/// Something that a provider told of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRecord {
    /// The batch.
    pub batch: u32,
    /// The task's index in the job.
    pub task: u32,
    /// Who told it.
    pub provider: Address,
    /// What.
    #[serde(flatten)]
    pub state: LogState,
}

/// How a task is doing, as its provider says. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum LogState {
    /// It is being executed, or about to be.
    Started,
    /// It has ended; more is told once its result is believed.
    Ended,
    /// It has ended like this.
    Done {
        /// The program's exit code, if it ended by itself.
        exit_code: Option<u32>,
        /// Fuel burned.
        fuel: u64,
        /// The first 64 KiB that the program wrote to standard error. It may contain anything: escape it for a terminal.
        stderr: String,
    },
    /// The job's log is full: this and whatever comes later is not kept.
    Full,
}

impl LogState {
    fn of(state: TaskState) -> Self {
        match state {
            TaskState::Started => Self::Started,
            TaskState::Ended => Self::Ended,
            TaskState::Done { exit_code, fuel, stderr } => {
                let stderr = String::from_utf8_lossy(&stderr[..stderr.len().min(MAX_STDERR_BYTES)]).into_owned();
                Self::Done { exit_code, fuel, stderr }
            }
        }
    }
}

/// The file that has a job's log.
fn file(folder: &Path, job: B256) -> PathBuf {
    folder.join("logs").join(format!("{}.jsonl", hex::encode(job)))
}

/// The one job with a log in a requester's data folder whose id starts with `prefix` (with or without 0x).
///
/// # Errors
/// A sentence for the user, if there is none, or several.
pub fn find_log(folder: &Path, prefix: &str) -> Result<B256, String> {
    let prefix = prefix.strip_prefix("0x").unwrap_or(prefix).to_lowercase();
    let files = std::fs::read_dir(folder.join("logs")).into_iter().flatten().flatten();
    let ids = files.filter_map(|file| file.path().file_stem()?.to_str()?.parse::<B256>().ok());
    let mut found = ids.filter(|id| hex::encode(id).starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(format!(
            "nothing has been told of a job whose id starts with {prefix} to the requester in {}: providers tell while \
             `conun job submit` or `conun job result` runs",
            folder.display()
        )),
        (Some(_), Some(_)) => Err(format!("several jobs' ids start with {prefix}: give more digits")),
    }
}

/// Reads a job's log, as far as it goes.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    position: u64,
}

impl LogReader {
    /// A reader at the log's beginning.
    pub fn new(folder: &Path, job: B256) -> Self {
        Self { path: file(folder, job), position: 0 }
    }

    /// What was written since the last call.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&mut self) -> Result<Vec<LogRecord>, super::Error> {
        let mut records = Vec::new();
        let mut read = || {
            let mut file = match File::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                file => BufReader::new(file?),
            };
            file.seek(SeekFrom::Start(self.position))?;
            let mut line = Vec::new();
            // A line without an end is being written, or a crash has cut it off.
            while file.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
                self.position += line.len() as u64;
                records.extend(serde_json::from_slice::<LogRecord>(&line));
                line.clear();
            }
            Ok(())
        };
        read().map_err(super::io_error(&self.path))?;
        Ok(records)
    }
}

/// Takes reports of this requester's jobs from those who hold them.
#[derive(Debug)]
pub(super) struct Desk {
    folder: PathBuf,
    access: Access,
    logs: Mutex<HashMap<B256, Log>>,
}

/// An open log.
#[derive(Debug)]
struct Log {
    file: File,
    length: u64,
    /// What was told already: providers tell again if they do not hear that they were heard.
    told: HashSet<(Address, u32, std::mem::Discriminant<LogState>)>,
    full: bool,
}

impl Log {
    fn open(folder: &Path, job: B256) -> io::Result<Self> {
        let path = file(folder, job);
        std::fs::create_dir_all(folder.join("logs"))?;
        let before = LogReader::new(folder, job).read().map_err(io::Error::other)?;
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != *b"\n" {
            file.write_all(b"\n")?;
            length += 1;
        }
        let full = before.iter().any(|record| record.state == LogState::Full);
        let told = before.into_iter().map(|record| key(&record)).collect();
        Ok(Self { file, length, told, full })
    }

    fn write(&mut self, record: &LogRecord) -> io::Result<()> {
        if self.full || self.told.contains(&key(record)) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(record)?;
        if self.length + line.len() as u64 > MAX_LOG {
            self.full = true;
            line = serde_json::to_vec(&LogRecord { state: LogState::Full, ..record.clone() })?;
        }
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.length += line.len() as u64;
        self.told.insert(key(record));
        Ok(())
    }
}

fn key(record: &LogRecord) -> (Address, u32, std::mem::Discriminant<LogState>) {
    (record.provider, record.task, std::mem::discriminant(&record.state))
}

impl Desk {
    pub(super) fn new(folder: &Path, access: Access) -> Self {
        Self { folder: folder.to_owned(), access, logs: Mutex::default() }
    }
}

impl Gate for Desk {
    fn rights(&self, endpoint: &[u8; 32]) -> Option<Arc<Rights>> {
        self.access.rights(endpoint)
    }

    fn news(&self) -> watch::Receiver<()> {
        self.access.news()
    }

    fn book(&self) -> Option<Arc<Book>> {
        Some(self.access.book())
    }

    fn take(&self, endpoint: &[u8; 32], report: Report) -> Result<(), Refusal> {
        let (id, batch) = (B256::from(report.job), report.batch);
        let entry = self.access.posted(&id).ok_or(Refusal::NotYours)?;
        let provider = self.access.holder(endpoint, &entry, batch).ok_or(Refusal::NotLeased)?;
        let tasks = job::tasks_in(&entry.job, batch);
        // What a failure leaves half-way is a line, which the next reader passes over.
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = || {
            let log = match logs.entry(id) {
                Entry::Occupied(log) => log.into_mut(),
                Entry::Vacant(place) => place.insert(Log::open(&self.folder, id)?),
            };
            for told in report.tasks.into_iter().filter(|told| tasks.contains(&told.task)) {
                log.write(&LogRecord { batch, task: told.task, provider, state: LogState::of(told.state) })?;
            }
            io::Result::Ok(())
        };
        kept().map_err(|error| {
            tracing::warn!(target: "conun::requester", %error, job = %id, "a log cannot be kept");
            Refusal::NotKept
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(task: u32, stderr: &str) -> LogRecord {
        let state = LogState::Done { exit_code: Some(0), fuel: 1, stderr: stderr.to_owned() };
        LogRecord { batch: 0, task, provider: Address::repeat_byte(1), state }
    }

    #[test]
    fn a_log_outlives_a_crash_and_has_each_thing_once() {
        let folder = tempfile::tempdir().unwrap();
        let job = B256::repeat_byte(7);
        let mut reader = LogReader::new(folder.path(), job);
        assert_eq!(reader.read().unwrap(), []);
        let mut log = Log::open(folder.path(), job).unwrap();
        for _ in 0..2 {
            log.write(&record(1, "one\n\u{1b}[2J")).unwrap();
        }
        assert_eq!(reader.read().unwrap(), [record(1, "one\n\u{1b}[2J")]);
        // A crash in the middle of a line.
        log.file.write_all(b"{\"batch\":").unwrap();
        drop(log);
        assert_eq!(reader.read().unwrap(), []);
        let mut log = Log::open(folder.path(), job).unwrap();
        log.write(&record(1, "again")).unwrap();
        log.write(&record(2, "two")).unwrap();
        assert_eq!(reader.read().unwrap(), [record(2, "two")]);
        assert_eq!(find_log(folder.path(), "0x0707").unwrap(), job);
        assert!(find_log(folder.path(), "08").unwrap_err().contains("conun job submit"));
        Log::open(folder.path(), B256::with_last_byte(1)).unwrap();
        assert!(find_log(folder.path(), "0x").unwrap_err().contains("give more digits"));
    }

    #[test]
    fn a_log_has_a_limit_and_says_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let job = B256::repeat_byte(7);
        let text = "x".repeat(MAX_STDERR_BYTES);
        for _ in 0..2 {
            let mut log = Log::open(folder.path(), job).unwrap();
            (0..400).for_each(|task| log.write(&record(task, &text)).unwrap());
        }
        let records = LogReader::new(folder.path(), job).read().unwrap();
        let fit = MAX_LOG as usize / (MAX_STDERR_BYTES + 128);
        assert!((fit - 1..fit + 2).contains(&records.len()), "{}", records.len());
        assert_eq!(records.iter().filter(|record| record.state == LogState::Full).count(), 1);
        assert_eq!(records.last().unwrap().state, LogState::Full);
        assert!(std::fs::metadata(file(folder.path(), job)).unwrap().len() <= MAX_LOG + 200);
    }
}
