//! Replays a deployment's blocks in revm and holds what comes out against what the chain says.
//!
//! 1. [`Recording::take`] fetches a range of blocks with their receipts; of the state before them only what is looked at is fetched, when
//!    it is looked at. Saved, a recording is replayed without an endpoint.
//! 2. [`replay`] executes every transaction of the range. It compares status, gas and logs with the receipts, the storage of CONUN's contracts
//!    with `eth_getStorageAt`, and checks the invariants after each block.
//! 3. [`Report`] tells what differs, and who paid whom for which work.
//! 4. [`trace()`] shows what one transaction did, by the names of calls, events and variables.
//! 5. [`what_if`] does the same with some transactions left out or added, and tells what became different.
//!
//! # Limits
//!
//! Blocks follow Ethereum's rules of one hard fork, Osaka unless told otherwise; chains with other kinds of transactions (rollups) are refused.
//! Changes that a test node makes beside transactions (`anvil_setBalance` and the like) are not in its blocks: they show as differences.

mod block;
mod compare;
mod error;
mod invariants;
mod ledger;
mod recording;
mod report;
mod state;
mod trace;
mod what_if;

pub use compare::{Difference, What};
pub use error::Error;
pub use ledger::{Flow, Ledger};
pub use recording::Recording;
pub use report::{Calls, Replayed, Report, replay};
pub use revm::primitives::hardfork::SpecId;
pub use trace::{Call, Step, Trace, trace};
pub use what_if::{Changed, Changes, Outcome, Send, Skip, what_if};
