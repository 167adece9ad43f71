//! `conun`: the open market for idle computing, as one command.
//!
//! A thin layer: it reads flags, environment and files, calls the libraries, and prints. No protocol logic lives here.

mod cli;
mod cmd;
mod context;
mod exit;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    exit::run(cli::parse())
}
