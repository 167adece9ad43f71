//! A guest on somebody's computer: holds the work back while the owner needs the machine, or says `pause`.
//!
//! Stopped work stays in memory where it is, and its lease runs on. While a lease can be given back without a mark, stopped work that is
//! not about to go on is given back; later it is kept, and is late if it has to be.

use std::{
    future::Future,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};

use super::is_paused;
use crate::{
    chain::{BatchStage, Index},
    core::BatchId,
    fabric::{Day, Judge, Limits, Moment, Preferences, Readings, Reason, Sensors, Verdict},
    net::Node,
    sandbox::Brake,
};

/// Time between readings.
const READ: Duration = Duration::from_secs(1);

/// Time between looks for the file that pauses.
const LOOK: Duration = Duration::from_millis(250);

/// `cpu-usage-limit` is a share of this.
const PERIOD: Duration = Duration::from_secs(1);

/// Work that has been stopped for less is about to go on, for all that is known: other programs are often busy for a moment.
const MOMENT: Duration = Duration::from_secs(10);

/// Time between writes of the day's traffic.
const KEEP: Duration = Duration::from_secs(60);

/// What the guest may do now.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) paused: bool,
    verdict: Verdict,
    readings: Readings,
    network_bytes: u64,
    /// Since when work has been stopped.
    stopped_at: Option<Instant>,
}

/// A [`Standing`] as `status.json` has it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestStatus {
    /// `running`, `takesNothingNew`, `suspended`, or `paused`.
    pub state: &'static str,
    /// The same with the exact reason, in words.
    pub text: String,
    /// Why it is not `running`.
    pub reason: Option<Reason>,
    /// What work may use, if it may.
    pub limits: Option<Limits>,
    /// What the sensors say.
    pub readings: Readings,
    /// Bytes that peers have sent and got on this local day.
    pub network_bytes_today: u64,
}

impl Standing {
    /// What running work may use; `None` if it has to stop.
    fn limits(&self) -> Option<Limits> {
        self.verdict.limits().filter(|_| !self.paused)
    }

    /// Whether anything new may be taken.
    pub(super) fn may_lease(&self) -> bool {
        !self.paused && matches!(self.verdict, Verdict::Run(_))
    }

    /// Whether work is stopped, and not just for a moment.
    pub(super) fn is_away(&self) -> bool {
        self.stopped_at.is_some_and(|at| at.elapsed() >= MOMENT)
    }

    pub(super) fn status(&self) -> GuestStatus {
        let reason = self.verdict.reason().filter(|_| !self.paused);
        let (state, text) = match (&self.verdict, reason) {
            _ if self.paused => ("paused", "paused until `conun provider resume`".to_owned()),
            (Verdict::NothingNew(..), Some(reason)) => ("takesNothingNew", format!("takes nothing new: {reason}")),
            (_, Some(reason)) => ("suspended", format!("suspended: {reason}")),
            (_, None) => ("running", "running".to_owned()),
        };
        GuestStatus {
            state,
            text,
            reason: reason.cloned(),
            limits: self.limits(),
            readings: self.readings,
            network_bytes_today: self.network_bytes,
        }
    }
}

/// Watches the computer and holds the brake, until it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    standing: watch::Receiver<Standing>,
    /// Processors that work may use, at most.
    processors: u32,
    share_percent: u8,
    task: JoinHandle<()>,
}

impl Guest {
    /// Begins after the first reading.
    pub(super) async fn start<S: Sensors>(
        folder: &Path,
        preferences: Preferences,
        mut sensors: S,
        brake: Brake,
        node: Node,
    ) -> Self {
        let first = sensors.read().await;
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let (usable, share_percent) = (preferences.processors(processors), preferences.cpu_usage_limit);
        let mut attendant = Attendant {
            folder: folder.to_owned(),
            processors,
            preferences,
            judge: Judge::default(),
            days: Days::read(folder),
            brake,
            node,
        };
        let standing = attendant.judge(first, is_paused(folder), None);
        attendant.brake.allow(standing.limits().map_or(0, |limits| limits.workers as usize));
        let (tell, standing) = watch::channel(standing);
        let (read, readings) = watch::channel(first);
        let task = tokio::spawn(async move {
            let reading = async {
                loop {
                    tokio::time::sleep(READ).await;
                    read.send_replace(sensors.read().await);
                }
            };
            tokio::join!(reading, attendant.attend(readings, tell));
        });
        Self { standing, processors: usable, share_percent, task }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Workers that may be busy at once, of those that are wanted.
    pub(super) fn workers(&self, wanted: u32) -> u32 {
        wanted.min(self.processors)
    }

    /// Milliseconds that work of this length takes by `cpu-usage-limit`, if it is not stopped for other reasons.
    pub(super) fn millis(&self, worked: Duration) -> u64 {
        u64::try_from(worked.as_millis() * 100 / u128::from(self.share_percent)).unwrap_or(u64::MAX)
    }

    /// Resolves once work may go on.
    pub(super) fn clearance(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut standing = self.standing.clone();
        // Without an attendant the agent has ended, and this with it.
        async move { drop(standing.wait_for(|standing| standing.limits().is_some()).await) }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Attendant {
    folder: PathBuf,
    processors: u32,
    preferences: Preferences,
    judge: Judge,
    days: Days,
    brake: Brake,
    node: Node,
}

impl Attendant {
    fn judge(&mut self, readings: Readings, paused: bool, stopped_at: Option<Instant>) -> Standing {
        let now = jiff::Zoned::now();
        let network_bytes = self.days.count(&now.date().to_string(), self.node.traffic_bytes());
        let moment = Moment {
            day: day(now.weekday()),
            minute: u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs()),
            network_bytes,
        };
        let verdict = self.judge.judge(&self.preferences, &readings, &moment, self.processors);
        let mut standing = Standing { paused, verdict, readings, network_bytes, stopped_at: None };
        standing.stopped_at = standing.limits().is_none().then(|| stopped_at.unwrap_or_else(Instant::now));
        standing
    }

    async fn attend(&mut self, mut readings: watch::Receiver<Readings>, tell: watch::Sender<Standing>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whether this is the part of the period in which work may run, and its end.
        let mut on = true;
        let mut turn = tokio::time::Instant::now();
        loop {
            let standing = tell.borrow().clone();
            let limits = standing.limits();
            let share = limits.map(|limits| limits.share_percent).filter(|share| *share < 100);
            on |= share.is_none();
            self.brake.allow(limits.filter(|_| on).map_or(0, |limits| limits.workers as usize));
            tokio::select! {
                () = tokio::time::sleep_until(turn), if share.is_some() => {
                    on = !on;
                    let percent = share.map_or(100, |share| if on { share } else { 100 - share });
                    turn = tokio::time::Instant::now() + PERIOD * u32::from(percent) / 100;
                }
                Ok(()) = readings.changed() => {
                    let readings = *readings.borrow_and_update();
                    let next = self.judge(readings, standing.paused, standing.stopped_at);
                    if next.limits().is_none() {
                        self.spare_memory();
                    }
                    tell.send_replace(next);
                    self.days.keep(&self.folder);
                }
                _ = looks.tick() => {
                    let paused = is_paused(&self.folder);
                    if paused != standing.paused {
                        let mut next = Standing { paused, ..standing };
                        next.stopped_at = next.limits().is_none().then(|| next.stopped_at.unwrap_or_else(Instant::now));
                        tell.send_replace(next);
                    }
                }
            }
        }
    }

    /// Gives up what stopped work holds beyond the limit.
    fn spare_memory(&self) {
        let most = self.preferences.suspended_memory_mib.saturating_mul(1 << 20);
        while self.brake.stopped().into_iter().map(resident_bytes).sum::<u64>() > most && self.brake.give_up() {}
    }
}

#[cfg(target_os = "linux")]
use crate::fabric::linux::resident_bytes;

#[cfg(not(target_os = "linux"))]
fn resident_bytes(_: u32) -> u64 {
    0
}

fn day(weekday: jiff::civil::Weekday) -> Day {
    use jiff::civil::Weekday;
    match weekday {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

/// A local day's traffic, as `traffic.json` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Today {
    date: String,
    bytes: u64,
}

/// Traffic by local day, across restarts.
#[derive(Debug, Default)]
struct Days {
    today: Today,
    /// What the node had counted when `today` was counted last.
    counted: u64,
    kept: Option<(Instant, Today)>,
}

impl Days {
    fn file(folder: &Path) -> PathBuf {
        folder.join("traffic.json")
    }

    fn read(folder: &Path) -> Self {
        let text = std::fs::read(Self::file(folder)).unwrap_or_default();
        // One that was torn counts for nothing: a budget is no promise to anybody.
        Self { today: serde_json::from_slice(&text).unwrap_or_default(), ..Self::default() }
    }

    /// Counts what was added since the last time to that day, and says what it has now.
    fn count(&mut self, date: &str, total: u64) -> u64 {
        if self.today.date != date {
            self.today = Today { date: date.to_owned(), bytes: 0 };
        }
        self.today.bytes += total.saturating_sub(self.counted);
        self.counted = total;
        self.today.bytes
    }

    /// Writes it down once a minute, if it has changed.
    fn keep(&mut self, folder: &Path) {
        if self.kept.as_ref().is_some_and(|(at, kept)| at.elapsed() < KEEP || *kept == self.today) {
            return;
        }
        let text = serde_json::to_vec(&self.today).expect("a day has string keys only");
        if let Err(error) = std::fs::write(Self::file(folder), text) {
            tracing::debug!(target: "conun::provider", %error, "the day's traffic is not kept");
        }
        self.kept = Some((Instant::now(), self.today.clone()));
    }
}

/// Whether a stopped batch is given back at block time `now`: for the last quarter of the time in which that leaves no mark, so that the
/// transaction is in time.
fn is_last_moment(now: u64, deadline: u64, lease: u64) -> bool {
    let age = (now + lease).saturating_sub(deadline);
    (lease * 3 / 16..=lease / 4).contains(&age)
}

/// Which of the batches being executed are given back now, since work is stopped.
pub(super) fn gives_back<'a>(
    index: &Index,
    me: Address,
    now: u64,
    executing: impl Iterator<Item = &'a BatchId>,
) -> Vec<BatchId> {
    let due = |(job, number): &&BatchId| {
        let Some(entry) = index.job(job) else { return false };
        let Some(batch) = entry.batches.get(*number as usize) else { return false };
        let lease = u64::from(entry.job.leaseSeconds);
        batch.stage == BatchStage::Leased && batch.provider == me && is_last_moment(now, batch.deadline, lease)
    };
    executing.filter(due).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_given_back_only_while_the_contract_takes_it_without_a_mark() {
        for lease in [40, 60, 601, 86_400] {
            let (leased_at, deadline) = (1_000_000, 1_000_000 + lease);
            let moments: Vec<_> =
                (leased_at..=deadline + 10).filter(|now| is_last_moment(*now, deadline, lease)).collect();
            // The contract's own limit is a quarter.
            assert_eq!(moments.last(), Some(&(leased_at + lease / 4)), "{lease}");
            assert_eq!(moments.first(), Some(&(leased_at + lease * 3 / 16)), "{lease}");
        }
    }

    #[test]
    fn traffic_is_counted_by_day_and_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut days = Days::read(folder.path());
        assert_eq!([days.count("2026-11-27", 100), days.count("2026-11-27", 250)], [100, 250]);
        days.keep(folder.path());
        // A new process counts from nothing.
        let mut days = Days::read(folder.path());
        assert_eq!([days.count("2026-11-27", 0), days.count("2026-11-27", 50)], [250, 300]);
        assert_eq!([days.count("2026-11-28", 60), days.count("2026-11-28", 60)], [10, 10]);
        // A file that was torn.
        std::fs::write(Days::file(folder.path()), "{\"date\":").unwrap();
        assert_eq!(Days::read(folder.path()).count("2026-11-28", 5), 5);
    }
}
