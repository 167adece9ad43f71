//! What a running provider tells other processes: a file it rewrites, and one that pauses it.

use std::{collections::BTreeMap, io, path::Path};

use alloy::primitives::{Address, B256, U256};
use serde::Serialize;
use serde_json::Value;

use super::{Earnings, Error, GuestStatus, LeaseStatus, Record, io_error};
use crate::{
    chain::{GasUse, Head, Loss},
    core::{Disputed, Overview, Verdict, Worth},
};

/// Losses that are told.
pub(super) const MOST_LOSSES: usize = 10;

/// A provider's state, as `status.json` has it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Process id of the agent.
    pub pid: u32,
    /// The hot account.
    pub account: Address,
    /// Whether it is paused.
    pub paused: bool,
    /// What it may do on this computer now, and why not more.
    pub guest: GuestStatus,
    /// Whether it takes nothing new, and stops once no stake is locked.
    pub draining: bool,
    /// Why nothing can be kept, if so: then nothing new is taken.
    pub disk: Option<String>,
    /// Latest block seen: number and time.
    pub block: u64,
    /// Time of that block, UNIX seconds.
    pub block_time: u64,
    /// Stake, token wei.
    pub stake: U256,
    /// Part of it that leases and windows lock, token wei.
    pub locked: U256,
    /// What it has earned, and is owed.
    #[serde(flatten)]
    pub earnings: Earnings,
    /// Its record.
    pub record: Record,
    /// Age of the latest block by this machine's clock, seconds.
    pub lag_seconds: u64,
    /// Peers that are connected.
    pub peers: usize,
    /// Other members of the deployment that it has heard of lately.
    pub heard: usize,
    /// What kind of transaction is under way, if one is.
    pub pending: Option<&'static str>,
    /// Batches that are held.
    pub leases: Vec<LeaseStatus>,
    /// What is said against its results: until when, and what is at stake.
    pub disputes: Vec<Disputed>,
    /// Stake that it lost, the latest [`MOST_LOSSES`] times, the latest last.
    pub losses: Vec<Loss>,
    /// What it is doing.
    pub work: Overview,
    /// Gas used since the start, by kind of transaction.
    pub gas: BTreeMap<&'static str, GasUse>,
}

impl Status {
    pub(super) fn at(&mut self, head: Head, lag_seconds: u64) {
        (self.block, self.block_time, self.lag_seconds) = (head.number, head.timestamp, lag_seconds);
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        replace(folder, "status.json", self)
    }
}

/// What is known of a job.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    /// What a batch is expected to bring, of the jobs that leases are chosen from.
    #[serde(skip_serializing_if = "Option::is_none")]
    worth: Option<Worth>,
}

/// Writes what came of each job seen, as [`read_verdicts`] reads it.
pub(super) fn write_verdicts(
    folder: &Path,
    verdicts: &BTreeMap<B256, Verdict>,
    worths: &BTreeMap<B256, Worth>,
) -> Result<(), Error> {
    let told = |(id, verdict): (&B256, _)| (*id, Told { verdict, worth: worths.get(id).copied() });
    replace(folder, "why.json", &verdicts.iter().map(told).collect::<BTreeMap<B256, _>>())
}

/// Replaces a file of a folder as a whole.
fn replace(folder: &Path, name: &str, value: &impl Serialize) -> Result<(), Error> {
    let path = folder.join(name);
    let part = folder.join(format!("{name}.part"));
    let text = serde_json::to_vec_pretty(value).expect("a status has string keys only");
    Ok(std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &path)).map_err(io_error(&path))?)
}

/// What the provider in `folder` said last; `None` if it never ran.
///
/// # Errors
/// If the file cannot be read.
pub fn read_status(folder: &Path) -> Result<Option<Value>, Error> {
    read(folder, "status.json")
}

/// What came of each job that the provider in `folder` has seen, by job id; `None` if it never ran.
///
/// # Errors
/// If the file cannot be read.
pub fn read_verdicts(folder: &Path) -> Result<Option<Value>, Error> {
    read(folder, "why.json")
}

fn read(folder: &Path, name: &str) -> Result<Option<Value>, Error> {
    let path = folder.join(name);
    match std::fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(&path)(error).into()),
    }
}

/// Whether the provider in `folder` is paused.
pub fn is_paused(folder: &Path) -> bool {
    folder.join("paused").exists()
}

/// Pauses or resumes the provider in `folder`, running or not; it notices within a second, and a restart does not forget it.
///
/// # Errors
/// If the folder is no provider's, or cannot be written.
pub fn set_paused(folder: &Path, paused: bool) -> Result<(), Error> {
    set_flag(folder, "paused", paused)
}

/// Whether the provider in `folder` is to finish what it holds and stop.
pub fn is_draining(folder: &Path) -> bool {
    folder.join("draining").exists()
}

/// Has the provider in `folder` finish what it holds, take nothing new, and stop once no stake is locked; or takes that back.
///
/// # Errors
/// As [`set_paused`].
pub fn set_draining(folder: &Path, draining: bool) -> Result<(), Error> {
    set_flag(folder, "draining", draining)
}

fn set_flag(folder: &Path, name: &str, on: bool) -> Result<(), Error> {
    if !super::ProviderConfig::file(folder).exists() {
        return Err(Error::NoFolder(folder.to_owned()));
    }
    let path = folder.join(name);
    let done = if on { std::fs::write(&path, "") } else { std::fs::remove_file(&path) };
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&path)(error).into()),
        _ => Ok(()),
    }
}
