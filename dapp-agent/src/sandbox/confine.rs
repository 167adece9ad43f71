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
    use rustix::process::{Resource, Rlimit, nice, setrlimit, setsid};

    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The agent may have died before the line above: then nobody would ever end this process.
        if getppid().is_none_or(|parent| parent.is_init()) {
            return Err(io::Error::other("the agent is gone"));
        }
        rustix::thread::set_no_new_privs(true)?;
    }
    // Fails where it leads its group already, which is as good.
    let _ = setsid();
    let limit = |resource, value| setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) });
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, MAX_FILES)?;
    // A guest on somebody's computer: whatever the owner does comes first.
    nice(19)?;
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn confine() -> io::Result<()> {
    Ok(())
}
