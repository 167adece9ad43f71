//! What a provider says while it works, as records: for `--json`, and for `events.jsonl` in the data folder.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::primitives::{Address, B256};
use serde_json::{Value, json};

use crate::{chain::Head, core::BatchId, net::PeerContact};

/// What a provider says while it works.
#[derive(Clone, Debug)]
pub enum Running {
    /// It is ready, as this registration, reachable there.
    Ready {
        /// Its account.
        provider: Address,
        /// Where peers reach it.
        contact: PeerContact,
    },
    /// It holds these batches.
    Leased(B256, Vec<u32>),
    /// A batch is executed: its fuel and how long it took.
    Executed(BatchId, u64, Duration),
    /// A batch could not be executed, and why.
    NotExecuted(BatchId, String),
    /// Results were submitted.
    Submitted(B256, Vec<u32>),
    /// Its owner needs the computer, or does not any more: what it may do now, and why.
    Guest(String),
    /// Another transaction of this kind was mined: "commit", "reveal", "finalise" ...
    Did(&'static str, B256, Vec<u32>),
    /// Something did not work out; it goes on.
    Trouble(String),
    /// It has looked at the chain.
    Looked(Look),
}

/// What a look at the chain found.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The latest block.
    pub head: Head,
    /// Its age by this machine's clock, seconds; 0 if it is ahead.
    pub lag_seconds: u64,
    /// Re-orgs since the start.
    pub reorgs: u64,
    /// Blocks that the last of them took back.
    pub reorg_depth: u64,
}

/// Where the log is, in a data folder.
const LOG: &str = "events.jsonl";

/// A log of this many bytes becomes `events.jsonl.1`, in place of the one before.
const LOG_BYTES: u64 = 8 << 20;

impl Running {
    /// The event as a record with a field `event`; none for a mere look at the chain, which comes every second.
    pub fn record(&self) -> Option<Value> {
        Some(match self {
            Self::Looked(_) => return None,
            Self::Ready { provider, contact } => {
                json!({ "event": "ready", "provider": provider, "hints": contact.hint_text() })
            }
            Self::Leased(job, batches) => json!({ "event": "leased", "job": job, "batches": batches }),
            Self::Executed((job, batch), fuel, took) => {
                json!({ "event": "executed", "job": job, "batch": batch, "fuel": fuel, "seconds": took.as_secs_f64() })
            }
            Self::NotExecuted((job, batch), reason) => {
                json!({ "event": "notExecuted", "job": job, "batch": batch, "reason": reason })
            }
            Self::Submitted(job, batches) => json!({ "event": "submitted", "job": job, "batches": batches }),
            Self::Did(kind, job, batches) => json!({ "event": kind, "job": job, "batches": batches }),
            Self::Guest(text) => json!({ "event": "guest", "text": text }),
            Self::Trouble(reason) => json!({ "event": "trouble", "reason": reason }),
        })
    }
}

/// `events.jsonl`: a record a line, with the time of this machine's clock, UNIX seconds.
#[derive(Debug)]
pub(super) struct EventLog {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl EventLog {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(LOG);
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // A crash may have cut off the last one.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end as u64 + 1);
        file.set_len(whole)?;
        Ok(Self { path, file, bytes: whole })
    }

    /// Appends a record, whole or not at all as far as the file system can.
    pub(super) fn append(&mut self, mut record: Value) -> io::Result<()> {
        if self.bytes >= LOG_BYTES {
            fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
            *self = Self::open(self.path.parent().unwrap_or(Path::new(".")))?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        record["time"] = now.into();
        let line = format!("{record}\n");
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // The disk is full, perhaps in the middle of it.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(path: &Path) -> Vec<Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn records_are_appended_across_restarts_and_a_full_log_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOG);
        for reason in ["first", "second"] {
            let mut log = EventLog::open(folder.path()).unwrap();
            log.append(Running::Trouble(reason.to_owned()).record().unwrap()).unwrap();
        }
        let found = records(&path);
        assert_eq!(found.len(), 2);
        assert_eq!((&found[1]["event"], &found[1]["reason"]), (&"trouble".into(), &"second".into()));
        assert!(found[0]["time"].as_u64().is_some());

        // One that a crash cut off.
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], br#"{"event":"tr"#].concat()).unwrap();
        EventLog::open(folder.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);

        let mut log = EventLog::open(folder.path()).unwrap();
        let long = Running::Trouble("x".repeat(1 << 20)).record().unwrap();
        (0..10).for_each(|_| log.append(long.clone()).unwrap());
        let (new, old) = (records(&path).len(), records(&folder.path().join("events.jsonl.1")).len());
        assert_eq!(new + old, 12, "nothing is lost at the turn");
        assert!(new < 10, "the log began anew");
    }
}
