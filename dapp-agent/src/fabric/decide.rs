//! What follows from preferences and readings. Pure: time comes in, nothing goes out.
//!
//! Work stops at the first reading that speaks against it, for the owner comes first. It goes on only after [`CALM`] readings in
//! a row that speak for it, by stricter marks than those that it stopped at: so it cannot start twice within [`CALM`] readings.

use serde::Serialize;

use super::{Day, Preferences, Readings};

/// Readings in a row without an objection before work goes on.
pub const CALM: u32 = 5;

/// Degrees Celsius by which it has to become cooler before work goes on.
const COOLER: i16 = 10;

/// Share of `suspend-cpu-usage` below which other programs have to fall before work goes on, percent.
const QUIETER: u32 = 75;

/// With less than this on its disk, bytes, an agent takes nothing new: results and journal have to fit.
const LEAST_FREE: u64 = 500_000_000;

/// A time of the local week, and how much the network was used on that day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The day.
    pub day: Day,
    /// Minute of the day.
    pub minute: u16,
    /// Bytes that peers have sent and got on that day.
    pub network_bytes: u64,
}

/// How much may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Worker processes at once.
    pub workers: u32,
    /// Percent of the time.
    pub share_percent: u8,
}

/// What is allowed now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Work, within these limits.
    Run(Limits),
    /// Finish what is held, within these limits; take nothing new.
    NothingNew(Limits, Reason),
    /// Stop.
    Suspend(Reason),
}

impl Verdict {
    /// The reason why less than all is allowed.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Run(_) => None,
            Self::NothingNew(_, reason) | Self::Suspend(reason) => Some(reason),
        }
    }

    /// What running work may use; `None` if nothing.
    pub fn limits(&self) -> Option<Limits> {
        match self {
            Self::Run(limits) | Self::NothingNew(limits, _) => Some(*limits),
            Self::Suspend(_) => None,
        }
    }
}

/// What speaks against work, and when it may go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Reason {
    /// Somebody uses the computer.
    #[error("the user was active {idle_seconds} s ago; runs again after {minutes} min of idleness (idle-time-to-run)")]
    UserActive {
        /// Seconds since the last input.
        idle_seconds: u64,
        /// Minutes of idleness that are asked for.
        minutes: u32,
    },
    /// No mains.
    #[error("on battery; runs again on mains (run-on-batteries)")]
    OnBattery,
    /// Other programs need the processors.
    #[error("other programs use {percent} % of the processors; runs again below {below} % (suspend-cpu-usage)")]
    Busy {
        /// Their part of all processors.
        percent: u8,
        /// When work goes on.
        below: u32,
    },
    /// It is too hot.
    #[error("{celsius} °C at the hottest sensor; runs again at {until} °C (max-celsius)")]
    Hot {
        /// Temperature of the hottest sensor.
        celsius: i16,
        /// When work goes on.
        until: i16,
    },
    /// Not at this time.
    #[error("not allowed at this time; runs again at the times of `hours` and `days`")]
    Time,
    /// The agent's files take too much space.
    #[error("the data folder has {used} bytes; takes jobs again below disk-max-used-gb = {most}")]
    DiskUsed {
        /// Size of the folder, bytes.
        used: u64,
        /// The limit, GB.
        most: u64,
    },
    /// The disk is full.
    #[error("{free} bytes are free on the data folder's disk; takes jobs again above {LEAST_FREE}")]
    DiskFull {
        /// Free bytes.
        free: u64,
    },
    /// The network costs by the byte.
    #[error("the network is metered; takes jobs again on another (only-on-unmetered-network)")]
    Metered,
    /// The day's budget is used up.
    #[error("peers have sent and got {used} bytes today; takes jobs again tomorrow (network-bytes-per-day)")]
    NetworkBudget {
        /// Bytes of today.
        used: u64,
    },
    /// Nothing speaks against it any more, but it did a moment ago.
    #[error("runs again in a moment; before, {before}")]
    Settling {
        /// What spoke against it, in words.
        before: String,
    },
}

/// What speaks against executing anything. With `stricter` marks if work is stopped already.
fn against_work(preferences: &Preferences, readings: &Readings, now: &Moment, stricter: bool) -> Option<Reason> {
    let in_time = preferences.hours.is_none_or(|hours| hours.contain(now.minute))
        && (preferences.days.is_empty() || preferences.days.contains(&now.day));
    if !in_time {
        return Some(Reason::Time);
    }
    if !preferences.run_on_batteries && readings.on_battery == Some(true) {
        return Some(Reason::OnBattery);
    }
    let minutes = preferences.idle_time_to_run;
    if let Some(idle_seconds) = readings.idle_seconds
        && !preferences.run_if_user_active
        && idle_seconds < u64::from(minutes) * 60
    {
        return Some(Reason::UserActive { idle_seconds, minutes });
    }
    if let Some(celsius) = readings.celsius
        && preferences.max_celsius != 0
    {
        let ceiling = i16::from(preferences.max_celsius);
        let until = ceiling - COOLER;
        if celsius > if stricter { until } else { ceiling } {
            return Some(Reason::Hot { celsius, until });
        }
    }
    if let Some(percent) = readings.others_cpu_percent
        && preferences.suspend_cpu_usage != 0
    {
        let most = u32::from(preferences.suspend_cpu_usage);
        let below = (most * QUIETER / 100).max(1);
        if if stricter { u32::from(percent) >= below } else { u32::from(percent) > most } {
            return Some(Reason::Busy { percent, below });
        }
    }
    None
}

/// What speaks against taking anything new.
fn against_leases(preferences: &Preferences, readings: &Readings, now: &Moment) -> Option<Reason> {
    let most = preferences.disk_max_used_gb;
    if let Some(used) = readings.data_bytes
        && most != 0
        && used > most.saturating_mul(1_000_000_000)
    {
        return Some(Reason::DiskUsed { used, most });
    }
    if let Some(free) = readings.free_bytes.filter(|free| *free < LEAST_FREE) {
        return Some(Reason::DiskFull { free });
    }
    if preferences.only_on_unmetered_network && readings.metered == Some(true) {
        return Some(Reason::Metered);
    }
    let used = now.network_bytes;
    if preferences.network_bytes_per_day != 0 && used >= preferences.network_bytes_per_day {
        return Some(Reason::NetworkBudget { used });
    }
    None
}

/// An objection that stays for [`CALM`] readings after it was raised last.
#[derive(Clone, Debug, Default)]
struct Latch {
    /// The last objection, and the readings without one since.
    held: Option<(Reason, u32)>,
}

impl Latch {
    fn step(&mut self, objection: impl FnOnce(bool) -> Option<Reason>) -> Option<Reason> {
        if let Some(reason) = objection(self.held.is_some()) {
            self.held = Some((reason.clone(), 0));
            return Some(reason);
        }
        let (before, calm) = self.held.as_mut()?;
        *calm += 1;
        let settling = Reason::Settling { before: before.to_string() };
        if *calm < CALM {
            return Some(settling);
        }
        self.held = None;
        None
    }
}

/// Remembers just enough of the past not to flap.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    work: Latch,
    leases: Latch,
}

impl Judge {
    /// What is allowed after another reading, on a computer with so many processors.
    pub fn judge(&mut self, preferences: &Preferences, readings: &Readings, now: &Moment, processors: u32) -> Verdict {
        let work = self.work.step(|stricter| against_work(preferences, readings, now, stricter));
        let leases = self.leases.step(|_| against_leases(preferences, readings, now));
        let limits = Limits { workers: preferences.processors(processors), share_percent: preferences.cpu_usage_limit };
        match (work, leases) {
            (Some(reason), _) => Verdict::Suspend(reason),
            (None, Some(reason)) => Verdict::NothingNew(limits, reason),
            (None, None) => Verdict::Run(limits),
        }
    }
}

#[cfg(test)]
mod tests;
