//! Ends worker processes so that what they held is free at once.
//!
//! A process that is killed gives its memory back itself and, if it is a guest, like all that it does only when nobody else wants a
//! processor: on a busy computer that is seconds later. So the agent does that work in its place where the kernel lets it
//! (`process_mrelease`, Linux 5.15).

/// Kills a process that has not been waited for, so that its id is nobody else's. It may be stopped, or have ended.
#[cfg(target_os = "linux")]
pub(super) fn kill(process: u32) {
    use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

    let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return };
    // Before the kill: then it is surely this process.
    let handle = pidfd_open(process, PidfdFlags::empty());
    let _ = kill_process(process, Signal::KILL);
    if let Ok(handle) = handle {
        // On a thread of its own, since it takes as long as there is memory. Without one, the process does it.
        let _ = std::thread::Builder::new().name("free-memory".to_owned()).spawn(move || release(&handle));
    }
}

#[cfg(target_os = "linux")]
fn release(process: &std::os::fd::OwnedFd) {
    use std::os::fd::AsRawFd;
    // SAFETY: a descriptor that is open and a number go in, a number comes out.
    #[expect(unsafe_code, reason = "no crate here has this system call")]
    unsafe {
        // What it answers does not matter: a process that has ended has nothing left, and an older kernel does not know the call.
        libc::syscall(libc::SYS_process_mrelease, process.as_raw_fd(), 0);
    }
}

/// Kills a process that has not been waited for.
#[cfg(all(unix, not(target_os = "linux")))]
pub(super) fn kill(process: u32) {
    use rustix::process::{Pid, Signal, kill_process};

    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, Signal::KILL);
    }
}

/// The caller's handle kills it when it is dropped.
#[cfg(not(unix))]
pub(super) fn kill(_: u32) {}
