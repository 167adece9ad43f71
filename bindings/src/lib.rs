//! The contracts as Rust sees them: compiled artifacts, alloy types, deployment, and the commitments (trees) that both
//! languages compute alike.
//!
//! - [`abi`]: types, calls, events and errors of each contract
//! - [`deploy`]: the one way that the demo, the devnet, tests and `conun deploy` put the contracts on a chain
//! - [`Contracts`]: where one deployment is, read from `deployments/<chain id>.json`
//! - [`job`]: a job's arithmetic; [`replicas`]: that of lots and votes; [`commit`]: what it commits to
//! - [`revert`]: what a contract's refusal means

pub mod abi;
pub mod commit;
pub mod deploy;
pub mod job;
mod record;
pub mod replicas;
pub mod revert;
mod rules;

pub use record::{Contracts, DeployedPart, Record, RecordError};
pub use rules::Rules;
