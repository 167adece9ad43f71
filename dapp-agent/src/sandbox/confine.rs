//! Rights and resources that a worker gives up before it sees a program.
//!
//! Address space is not limited: wasmer reserves 4 GiB of it for each running task. Real memory is bounded by the job's memory
//! limit, which the agent checks against its own cap.

use std::io;

/// Files a worker may have open: its three pipes, the runtime's own, and a few to spare.
#[cfg(unix)]
const MAX_FILES: u64 = 64;

/// Gives up what a task does not need.
#[cfg(unix)]
pub(super) fn confine() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit, setsid};

    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        // An agent that died before this line has closed the pipe, at whose end the worker ends. Asking for the parent's id
        // would not tell: in a container the agent itself is often process 1.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        rustix::thread::set_no_new_privs(true)?;
    }
    // Fails where it leads its group already, which is as good.
    let _ = setsid();
    let limit = |resource, value| setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, MAX_FILES)?;
    // A guest on somebody's computer: whatever the owner does comes first.
    setpriority_process(None, 19)?;
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn confine() -> io::Result<()> {
    Ok(())
}
