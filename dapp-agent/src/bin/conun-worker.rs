//! A worker process by itself, for the tests of this crate; `conun worker` is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    match conun_agent::sandbox::worker_main() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever started it sees that it ended.
        Err(_) => ExitCode::FAILURE,
    }
}
