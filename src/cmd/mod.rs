//! One file per noun.

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod devnet;
pub(crate) mod doctor;
pub(crate) mod job;
mod network;
pub(crate) mod provider;
pub(crate) mod relay;
pub(crate) mod replay;
pub(crate) mod shell;
pub(crate) mod sim;
pub(crate) mod wasm;

use std::process::ExitCode;

/// `conun worker`: what the agent starts to execute tasks.
pub(crate) fn worker() -> eyre::Result<ExitCode> {
    conun_agent::sandbox::worker_main()?;
    Ok(ExitCode::SUCCESS)
}
