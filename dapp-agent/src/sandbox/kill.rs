//! Ends worker processes so that what they held is free at once.
//!
//! A process that is killed gives its memory back itself and, if it is a guest, like all that it does only when nobody else wants a
//! processor: on a busy computer that is seconds later. So the agent does that work in its place where the kernel lets it
//! (`process_mrelease`, Linux 5.15), and raises the process for what is left, where it may: see [`raise`].

/// Kills a process that has not been waited for, so that its id is nobody else's. It may be stopped, or have ended.
#[cfg(target_os = "linux")]
pub(super) fn kill(process: u32) {
    use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

    let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return };
    // Before the kill: then it is surely this process.
    let handle = pidfd_open(process, PidfdFlags::empty());
    raise(process.as_raw_pid());
    let _ = kill_process(process, Signal::KILL);
    if let Ok(handle) = handle {
        // On a thread of its own, since it takes as long as there is memory. Without one, the process does it.
        let _ = std::thread::Builder::new().name("free-memory".to_owned()).spawn(move || release(&handle));
    }
}

/// Has a guest end like anybody else. Who is not privileged may do so only if the process has the limit for it (`RLIMIT_NICE` of 20,
/// `LimitNICE=+0` of a unit); the process itself cannot, for want of the system calls.
#[cfg(target_os = "linux")]
fn raise(process: i32) {
    // The session first, where the kernel shares processors among sessions; of that anybody may ask.
    let _ = std::fs::write(format!("/proc/{process}/autogroup"), "0");
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters are read during the call.
    #[expect(unsafe_code, reason = "no crate here has this system call")]
    unsafe {
        libc::sched_setscheduler(process, libc::SCHED_OTHER, &raw const parameters);
    }
    let _ = rustix::process::setpriority_process(rustix::process::Pid::from_raw(process), 0);
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Child, Command};

    use super::raise;

    /// A field of `/proc/PID/stat` by its number in proc(5), from 4 on.
    fn stat(child: &Child, field: usize) -> i64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let behind_name = stat.rsplit_once(')').unwrap().1;
        behind_name.split_whitespace().nth(field - 3).unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn a_guest_that_is_to_end_is_no_guest_any_more() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        rustix::process::setpriority_process(rustix::process::Pid::from_raw(child.id().cast_signed()), 19).unwrap();
        super::super::confine::idle_cpu(child.id()).await.unwrap();
        let policy = |child: &Child| stat(child, 41);
        assert_eq!(policy(&child), i64::from(libc::SCHED_IDLE));
        raise(child.id().cast_signed());
        // Whoever may not leaves it as it was.
        if rustix::process::geteuid().is_root() {
            assert_eq!((policy(&child), stat(&child, 19)), (i64::from(libc::SCHED_OTHER), 0));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
