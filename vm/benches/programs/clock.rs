//! Time in user mode, which other processes disturb least.

use std::{mem::MaybeUninit, time::Duration};

/// User time of this process, all threads together.
pub(crate) fn own() -> Duration {
    user(libc::RUSAGE_SELF)
}

/// User time of all child processes that have ended.
pub(crate) fn children() -> Duration {
    user(libc::RUSAGE_CHILDREN)
}

fn user(who: libc::c_int) -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is writable memory of the right size, and `getrusage` has filled it when it returns 0.
    #[expect(unsafe_code, reason = "the standard library has no processor time")]
    let usage = unsafe {
        assert_eq!(libc::getrusage(who, usage.as_mut_ptr()), 0, "getrusage knows this process and its children");
        usage.assume_init()
    };
    Duration::from_secs(part(usage.ru_utime.tv_sec)) + Duration::from_micros(part(usage.ru_utime.tv_usec))
}

fn part(value: impl TryInto<u64>) -> u64 {
    value.try_into().ok().expect("no process has used negative time")
}
