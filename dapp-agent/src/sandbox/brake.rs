//! Stops worker processes in the middle of a task, and has them go on: what they have computed stays in their memory.
//!
//! A stopped process (`SIGSTOP`) does not notice anything; its deadline stands still, too. Only processes that have something to do
//! count: idle ones wait for their pipe and need no processor. Where there are no such signals (Windows) nothing stops.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Between looks at a clock that may stand still.
const LOOK: Duration = Duration::from_millis(100);

/// How many of a sandbox's processes may work at once; all of them until somebody says otherwise. Clones are the same brake.
#[derive(Clone, Debug, Default)]
pub struct Brake(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    allowed: usize,
    next: u64,
    /// Processes with something to do, the earliest first.
    busy: BTreeMap<u64, Busy>,
}

impl Default for State {
    fn default() -> Self {
        Self { allowed: usize::MAX, next: 0, busy: BTreeMap::new() }
    }
}

#[derive(Debug)]
struct Busy {
    process: u32,
    stopped_at: Option<Instant>,
    stopped: Duration,
    given_up: bool,
}

impl Brake {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here can fail half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the first `most` busy processes work, and stops the others, at once.
    pub fn allow(&self, most: usize) {
        let mut state = self.state();
        if state.allowed != most {
            state.allowed = most;
            state.apply();
        }
    }

    /// The processes that are stopped now, without those that were given up.
    pub fn stopped(&self) -> Vec<u32> {
        self.state()
            .busy
            .values()
            .filter(|busy| busy.stopped_at.is_some() && !busy.given_up)
            .map(|busy| busy.process)
            .collect()
    }

    /// Kills the stopped process that began last, so that its memory is free; whether there was one. What it did is lost, and
    /// whoever waits for it is told.
    pub fn give_up(&self) -> bool {
        let mut state = self.state();
        let last = state.busy.values_mut().rev().find(|busy| busy.stopped_at.is_some() && !busy.given_up);
        let Some(busy) = last else { return false };
        busy.given_up = true;
        super::kill::kill(busy.process);
        true
    }

    /// A process has something to do, until what is returned is dropped. It must not be waited for before that, so that its id is
    /// nobody else's.
    pub(super) fn enter(&self, process: u32) -> Turn {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.busy.insert(number, Busy { process, stopped_at: None, stopped: Duration::ZERO, given_up: false });
        state.apply();
        Turn { brake: self.clone(), number }
    }
}

impl State {
    /// Stops and continues what has to be.
    fn apply(&mut self) {
        for (place, busy) in self.busy.values_mut().enumerate() {
            match (place < self.allowed, busy.stopped_at) {
                (false, None) => {
                    busy.stopped_at = Some(Instant::now());
                    signal(busy.process, Signal::Stop);
                }
                (true, Some(at)) => {
                    busy.stopped += at.elapsed();
                    busy.stopped_at = None;
                    signal(busy.process, Signal::Continue);
                }
                _ => {}
            }
        }
    }
}

/// A process's time with something to do.
#[derive(Debug)]
pub(super) struct Turn {
    brake: Brake,
    number: u64,
}

impl Turn {
    /// Time in which the process was stopped.
    pub(super) fn stopped(&self) -> Duration {
        let state = self.brake.state();
        let Some(busy) = state.busy.get(&self.number) else { return Duration::ZERO };
        busy.stopped + busy.stopped_at.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Whether the process was killed by [`Brake::give_up`].
    pub(super) fn given_up(&self) -> bool {
        self.brake.state().busy.get(&self.number).is_some_and(|busy| busy.given_up)
    }

    /// What `wanted` comes to, or `None` if the process had `deadline` to work and it did not come.
    pub(super) async fn within<T>(&self, deadline: Duration, wanted: impl Future<Output = T>) -> Option<T> {
        let mut wanted = std::pin::pin!(wanted);
        let (began, before) = (Instant::now(), self.stopped());
        let mut wait = deadline;
        loop {
            if let Ok(come) = tokio::time::timeout(wait, &mut wanted).await {
                return Some(come);
            }
            let worked = began.elapsed().saturating_sub(self.stopped().saturating_sub(before));
            wait = deadline.checked_sub(worked).filter(|left| !left.is_zero())?.max(LOOK);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.brake.state();
        // One that was stopped just after it answered has to hear what comes next.
        if let Some(busy) = state.busy.remove(&self.number)
            && busy.stopped_at.is_some()
        {
            signal(busy.process, Signal::Continue);
        }
        // The next one may work in its place.
        state.apply();
    }
}

enum Signal {
    Stop,
    Continue,
}

#[cfg(unix)]
fn signal(process: u32, signal: Signal) {
    use rustix::process::{Pid, kill_process};

    let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return };
    let signal = match signal {
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Continue => rustix::process::Signal::CONT,
    };
    // It may have ended.
    let _ = kill_process(process, signal);
}

#[cfg(not(unix))]
fn signal(_: u32, _: Signal) {}
