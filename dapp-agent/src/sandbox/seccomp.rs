//! The system calls that are left to a worker. All others fail with `EPERM`: engine and runtime can live with that, so that a
//! C library that asks for something new does not make the worker useless.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::confine::Role;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Error = Box<dyn std::error::Error>;

/// What every worker does: read and write its pipes, take and give back memory, handle the engine's traps, end.
const ALWAYS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // More filters can only take more away.
    libc::SYS_seccomp,
];

/// What long inputs need, in a file that is open already.
const FILE: &[libc::c_long] = &[libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_ftruncate];

/// What the compiler's threads need.
const THREADS: &[libc::c_long] = &[libc::SYS_rseq, libc::SYS_set_robust_list, libc::SYS_clone3];

/// A number that asks `clone` for a thread of this process, not for another process.
const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;

fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn bits(argument: u8, bits: u64) -> Result<SeccompRule, Error> {
    condition(argument, SeccompCmpOp::MaskedEq(bits), bits)
}

fn install(rules: Rules, otherwise: SeccompAction, listed: SeccompAction) -> Result<(), Error> {
    let filter = SeccompFilter::new(rules, otherwise, listed, std::env::consts::ARCH.try_into()?)?;
    Ok(apply_filter(&BpfProgram::try_from(filter)?)?)
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

/// Leaves a worker the calls that it needs. Its threads to come have the same.
pub(super) fn few_calls(role: Role) -> Result<(), String> {
    let apply = || -> Result<(), Error> {
        let mut rules: Rules = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
        // A process that gives up sends itself the signal.
        rules.insert(libc::SYS_tgkill, vec![condition(0, SeccompCmpOp::Eq, std::process::id().into())?]);
        // Comes before each filter.
        let no_new_privs = u64::try_from(libc::PR_SET_NO_NEW_PRIVS)?;
        rules.insert(libc::SYS_prctl, vec![condition(0, SeccompCmpOp::Eq, no_new_privs)?]);
        if role == Role::Compile {
            rules.extend(THREADS.iter().map(|call| (*call, Vec::new())));
            rules.insert(libc::SYS_clone, vec![bits(0, CLONE_THREAD)?]);
            // What it asks for cannot be seen from here. As if the kernel did not know it: the C library takes `clone` then.
            // This filter's answer goes before the permission above.
            let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
            install(clone3, SeccompAction::Allow, errno(libc::ENOSYS))?;
        }
        if role == Role::Execute {
            rules.extend(FILE.iter().map(|call| (*call, Vec::new())));
        }
        install(rules, errno(libc::EPERM), SeccompAction::Allow)
    };
    apply().map_err(|error| error.to_string())
}

/// Nothing that is written from now on will be executed.
pub(super) fn no_new_code() -> Result<(), String> {
    let apply = || -> Result<(), Error> {
        let executable = || bits(2, libc::PROT_EXEC.unsigned_abs().into());
        let rules = Rules::from([(libc::SYS_mmap, vec![executable()?]), (libc::SYS_mprotect, vec![executable()?])]);
        install(rules, SeccompAction::Allow, errno(libc::EPERM))
    };
    apply().map_err(|error| error.to_string())
}
