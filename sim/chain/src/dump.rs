//! A whole chain in a file.

use std::path::Path;

use alloy::{
    consensus::Header,
    rpc::types::{Transaction, TransactionReceipt},
};
use serde::{Deserialize, Serialize};

use crate::{Error, state::DumpedState};

/// A block without its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DumpedBlock {
    pub(crate) header: Header,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) receipts: Vec<TransactionReceipt>,
}

/// A whole chain as a file has it: all blocks, and the state after the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dump {
    /// Version of this format.
    version: u32,
    pub(crate) chain_id: u64,
    pub(crate) time_offset: i64,
    pub(crate) blocks: Vec<DumpedBlock>,
    pub(crate) state: DumpedState,
}

impl Dump {
    pub(crate) fn new(chain_id: u64, time_offset: i64, blocks: Vec<DumpedBlock>, state: DumpedState) -> Self {
        Self { version: 1, chain_id, time_offset, blocks, state }
    }

    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let dump: Self =
            serde_json::from_slice(&bytes).map_err(|source| Error::NotADump { path: path.to_owned(), source })?;
        let wrong = |text: String| Error::NotADump { path: path.to_owned(), source: serde::de::Error::custom(text) };
        if dump.version != 1 {
            return Err(wrong(format!("version {} is not known", dump.version)));
        }
        if dump.blocks.is_empty() {
            return Err(wrong("it has no blocks".to_owned()));
        }
        Ok(dump)
    }

    /// Writes the file whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let part = path.with_extension("part");
        let text = serde_json::to_vec(self).map_err(|source| Error::NotADump { path: path.to_owned(), source })?;
        std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, path)).map_err(io)
    }
}
