//! The end of a job: machines that are slow without knowing it, and backups of what they hold.
//!
//! Tasks are taken one after the other. Once none is left, whoever is idle may start a second execution of one that still runs; the first
//! result counts, and the other execution stops.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::random::Random;

/// A cluster and its work. Times are in units of the time that a task takes on a machine of speed 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Speed of each machine.
    pub speeds: Vec<f64>,
    /// Tasks.
    pub tasks: usize,
    /// Standard deviation of the logarithm of a task's work, whose median is 1.
    pub sigma: f64,
    /// Whether there are backups, and when.
    pub backups: Option<Backups>,
    /// After this time an execution is given up and its task is anybody's again: a lease.
    pub lease: Option<f64>,
}

/// When a backup may start, and end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backups {
    /// Least time that the first execution has had.
    pub after: f64,
    /// Least time that the backup takes: before it nobody may deliver for another (`successorDelayBlocks`).
    pub delay: f64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// Time from the first task's start to the last one's end.
    pub makespan: f64,
    /// The same if all machines were busy to the last moment with what counts.
    pub ideal: f64,
    /// Work that did not count, as a share of what did.
    pub extra: f64,
    /// Time by which all but five tasks were done.
    pub but_five: f64,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    task: usize,
    machine: usize,
    start: f64,
    alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Done(usize),
    Expired(usize),
    /// A backup may start now.
    Late,
}

/// A time that can be ordered: there are none that are not numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Time(f64);
impl Eq for Time {}
impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Time {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

struct Play<'a> {
    cluster: &'a Cluster,
    random: Random,
    work: Vec<f64>,
    queue: BinaryHeap<Reverse<(Time, Happening)>>,
    attempts: Vec<Attempt>,
    /// Executions of each task that run.
    running: Vec<Vec<usize>>,
    done: Vec<bool>,
    /// Whether it had a backup: it gets one only.
    backed_up: Vec<bool>,
    waiting: Vec<usize>,
    idle: Vec<usize>,
    wasted: f64,
}

/// Plays the work of a cluster once.
///
/// # Panics
/// If there are no machines, or some that stand still.
pub fn play(cluster: &Cluster, seed: u64) -> Tail {
    assert!(!cluster.speeds.is_empty() && cluster.speeds.iter().all(|speed| *speed > 0.0), "machines that work");
    let mut random = Random::new(seed, "tail", 0);
    let work: Vec<_> = (0..cluster.tasks).map(|_| libm::exp(cluster.sigma * random.normal())).collect();
    let mut idle: Vec<_> = (0..cluster.speeds.len()).collect();
    for at in (1..idle.len()).rev() {
        idle.swap(at, random.below(at + 1));
    }
    let mut play = Play {
        cluster,
        random,
        queue: BinaryHeap::new(),
        attempts: Vec::new(),
        running: vec![Vec::new(); cluster.tasks],
        done: vec![false; cluster.tasks],
        backed_up: vec![false; cluster.tasks],
        waiting: (0..cluster.tasks).rev().collect(),
        idle,
        work,
        wasted: 0.0,
    };
    let mut ends = Vec::with_capacity(cluster.tasks);
    play.assign(0.0);
    while ends.len() < cluster.tasks
        && let Some(Reverse((Time(now), happening))) = play.queue.pop()
    {
        match happening {
            Happening::Done(number) if play.attempts[number].alive => {
                let task = play.attempts[number].task;
                play.done[task] = true;
                ends.push(now);
                for other in std::mem::take(&mut play.running[task]) {
                    play.stop(other, now, other != number);
                }
            }
            Happening::Expired(number) if play.attempts[number].alive => {
                let task = play.attempts[number].task;
                play.running[task].retain(|running| *running != number);
                play.stop(number, now, true);
                if play.running[task].is_empty() {
                    play.backed_up[task] = false;
                    play.waiting.push(task);
                }
            }
            _ => {}
        }
        play.assign(now);
    }
    let total: f64 = play.work.iter().sum();
    let at = |back: usize| ends.len().checked_sub(back).and_then(|at| ends.get(at)).copied().unwrap_or_default();
    Tail {
        makespan: at(1),
        but_five: at(6),
        ideal: total / cluster.speeds.iter().sum::<f64>(),
        extra: play.wasted / total,
    }
}

/// Means over seeds from 1 on.
pub fn mean(cluster: &Cluster, seeds: u64) -> Tail {
    let tails: Vec<_> = (1..=seeds).map(|seed| play(cluster, seed)).collect();
    let mean = |of: fn(&Tail) -> f64| tails.iter().map(of).sum::<f64>() / seeds.max(1) as f64;
    Tail {
        makespan: mean(|tail| tail.makespan),
        ideal: mean(|tail| tail.ideal),
        extra: mean(|tail| tail.extra),
        but_five: mean(|tail| tail.but_five),
    }
}

impl Play<'_> {
    fn stop(&mut self, number: usize, now: f64, in_vain: bool) {
        let attempt = &mut self.attempts[number];
        attempt.alive = false;
        self.idle.push(attempt.machine);
        if in_vain {
            self.wasted += (now - attempt.start) * self.cluster.speeds[attempt.machine];
        }
    }

    fn start(&mut self, task: usize, machine: usize, now: f64, least: f64) {
        let number = self.attempts.len();
        self.attempts.push(Attempt { task, machine, start: now, alive: true });
        self.running[task].push(number);
        let takes = (self.work[task] / self.cluster.speeds[machine]).max(least);
        self.queue.push(Reverse((Time(now + takes), Happening::Done(number))));
        if let Some(lease) = self.cluster.lease {
            self.queue.push(Reverse((Time(now + lease), Happening::Expired(number))));
        }
        if let Some(backups) = self.cluster.backups {
            self.queue.push(Reverse((Time(now + backups.after), Happening::Late)));
        }
    }

    /// Whoever is idle takes what nobody has; and when all is taken, what somebody has had for long.
    fn assign(&mut self, now: f64) {
        while !self.idle.is_empty()
            && let Some(task) = self.waiting.pop()
        {
            let machine = self.anybody();
            self.start(task, machine, now, 0.0);
        }
        let Some(backups) = self.cluster.backups.filter(|_| self.waiting.is_empty() && !self.idle.is_empty()) else {
            return;
        };
        let is_late = |task: &usize| match self.running[*task][..] {
            [number] => !self.backed_up[*task] && self.attempts[number].start + backups.after <= now + 1e-9,
            _ => false,
        };
        let mut late: Vec<_> = (0..self.cluster.tasks).filter(is_late).collect();
        late.sort_by_key(|task| Time(self.attempts[self.running[*task][0]].start));
        for task in late {
            if self.idle.is_empty() {
                return;
            }
            let machine = self.anybody();
            self.backed_up[task] = true;
            self.start(task, machine, now, backups.delay);
        }
    }

    fn anybody(&mut self) -> usize {
        let at = self.random.below(self.idle.len());
        self.idle.swap_remove(at)
    }
}
