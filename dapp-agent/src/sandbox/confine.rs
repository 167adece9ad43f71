//! Rights and resources that a worker gives up before it sees a program.
//!
//! Each layer is there in case that another fails, or that the engine has a hole. What a kernel does not have is left out and
//! told: see [`Confinement`].
//!
//! Address space is not limited: wasmer reserves 4 GiB of it for each memory. What counts is private writable memory
//! (`RLIMIT_DATA`): reserved pages are not writable until a program may use them.

use std::io;

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Checks, prepares and compiles one program; runs nothing of it.
    Compile,
    /// Loads one compiled program and executes tasks with it; compiles nothing.
    Execute,
}

/// What a worker may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) role: Role,
    /// Most private writable memory, bytes.
    pub(super) data_bytes: u64,
    /// Most of a long input that it keeps outside of that, bytes.
    pub(super) file_bytes: u64,
    /// Most processor time, seconds.
    pub(super) cpu_seconds: u64,
}

/// One of the things that keep a worker in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is, in a few words.
    pub name: String,
    /// Why it is not there; `None` if it is.
    pub missing: Option<String>,
}

/// What keeps the workers of this machine in, and what its kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// All layers, in the order in which they were put on.
    pub layers: Vec<Layer>,
}

impl Confinement {
    /// Whether no layer is missing.
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(|layer| layer.missing.is_none())
    }

    pub(super) fn add(&mut self, name: &str, result: Result<(), String>) {
        // One line each, whatever the system says.
        let missing = result.err().map(|reason| reason.replace(['\n', '\t'], " "));
        self.layers.push(Layer { name: name.to_owned(), missing });
    }
}

/// Gives up what a worker of that kind does not need.
///
/// # Errors
/// If a limit that every system has cannot be set: then nothing must be executed.
pub(super) fn confine(budget: &Budget) -> io::Result<Confinement> {
    let mut done = Confinement { layers: Vec::new() };
    #[cfg(unix)]
    limits(budget, &mut done)?;
    #[cfg(target_os = "linux")]
    done.add("no file, no socket, no signal (landlock)", landlock().map_err(|error| error.to_string()));
    // Nothing is opened any more, by landlock either; what is open stays so.
    #[cfg(unix)]
    limit(rustix::process::Resource::Nofile, 0)?;
    #[cfg(target_os = "linux")]
    done.add("few system calls (seccomp)", super::seccomp::few_calls(budget.role));
    #[cfg(not(target_os = "linux"))]
    done.add("few system calls, no files", Err("only Linux has it".to_owned()));
    Ok(done)
}

/// Gives up what was needed only until the program was loaded.
pub(super) fn loaded() {
    // Whether it can be had was told at the beginning.
    #[cfg(target_os = "linux")]
    let _ = super::seccomp::no_new_code();
}

#[cfg(unix)]
fn limit(resource: rustix::process::Resource, most: u64) -> io::Result<()> {
    let limit = rustix::process::Rlimit { current: Some(most), maximum: Some(most) };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

#[cfg(unix)]
fn limits(budget: &Budget, done: &mut Confinement) -> io::Result<()> {
    use rustix::process::{Resource, setpriority_process, setsid};

    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        // An agent that died before this line has closed the pipe, at whose end the worker ends. Asking for the parent's id
        // would not tell: in a container the agent itself is often process 1.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        rustix::thread::set_no_new_privs(true)?;
        done.add("no new rights, ends with its agent", Ok(()));
        // When memory runs out, a task goes first.
        let first = std::fs::write("/proc/self/oom_score_adj", "1000");
        done.add("first to go when memory runs out", first.map_err(|error| error.to_string()));
    }
    // Fails where it leads its group already, which is as good.
    let _ = setsid();
    limit(Resource::Core, 0)?;
    // The only file that it can write to is that of long inputs.
    limit(Resource::Fsize, budget.file_bytes)?;
    limit(Resource::Data, budget.data_bytes)?;
    limit(Resource::Cpu, budget.cpu_seconds)?;
    // A guest on somebody's computer: whatever the owner does comes first.
    setpriority_process(None, 19)?;
    done.add("limits of memory, processor time and files; lowest priority", Ok(()));
    #[cfg(target_os = "linux")]
    done.add("the disk only when nobody else wants it", idle_io().map_err(|error| error.to_string()));
    Ok(())
}

/// The scheduler's idle class for a worker that has confined itself; and the lowest priority for its session, where the kernel shares
/// processors among sessions first (autogroup): there a process's own priority means nothing to other sessions.
#[cfg(target_os = "linux")]
pub(super) async fn idle_cpu(process: u32) -> io::Result<()> {
    /// The kernel allows one change of a session's priority in a tenth of a second.
    const ATTEMPTS: u32 = 20;
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters are read during the call.
    #[expect(unsafe_code, reason = "no crate here has this system call")]
    let done = unsafe { libc::sched_setscheduler(process.cast_signed(), libc::SCHED_IDLE, &raw const parameters) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    for _ in 0..ATTEMPTS {
        match std::fs::write(format!("/proc/{process}/autogroup"), "19") {
            // A kernel without sessions' shares, or the session that it began with, which has none.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            done => return done,
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// Disk accesses of this process (it may still page) wait for everybody else's.
#[cfg(target_os = "linux")]
fn idle_io() -> io::Result<()> {
    /// `IOPRIO_WHO_PROCESS`, and process 0: this one.
    const THIS: (libc::c_long, libc::c_long) = (1, 0);
    /// `IOPRIO_CLASS_IDLE`, in the highest three of 16 bits.
    const IDLE: libc::c_long = 3 << 13;
    // SAFETY: numbers go in, a number comes out.
    #[expect(unsafe_code, reason = "no crate here has this system call")]
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, THIS.0, THIS.1, IDLE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// No rule allows anything: what is not open already, nobody opens.
#[cfg(target_os = "linux")]
fn landlock() -> Result<(), Box<dyn std::error::Error>> {
    use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};

    const NEWEST: ABI = ABI::V6;
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?;
    match rules.create()?.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced => Err("this kernel has only a part of it (Linux 6.12 has all)".into()),
        RulesetStatus::NotEnforced => Err("this kernel does not have it, or it is off (`lsm=` at boot)".into()),
    }
}
