//! What the owner allows: `[preferences]` of `provider.toml`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// When, and how much of, this computer may be used. The first seven have the meanings that BOINC gives them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preferences {
    /// Whether to work while somebody uses the computer; default no.
    pub run_if_user_active: bool,
    /// Minutes without input after which nobody uses the computer; default 3. Of no effect with `run-if-user-active`.
    pub idle_time_to_run: u32,
    /// Whether to work on battery; default no.
    pub run_on_batteries: bool,
    /// Percent of all processors together: work stops while other programs use more; 0 for never; default 25.
    pub suspend_cpu_usage: u8,
    /// Percent of the time in which work may use its processors, 1 to 100; default 100.
    pub cpu_usage_limit: u8,
    /// Percent of the processors that work may use, 1 to 100, at least one processor; default 100.
    pub max_ncpus_pct: u8,
    /// Most disk space of the data folder, GB (10^9 bytes): when it has more, nothing new is taken; 0 for no limit; default 10.
    pub disk_max_used_gb: u64,
    /// Local time in which to work, as `"22:00-07:00"`; default always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// Days on which to work, as `["sat", "sun"]`; all if empty (default). After midnight it is the next day.
    pub days: BTreeSet<Day>,
    /// Degrees Celsius at the hottest sensor, 40 to 120: work stops above; 0 for never; default 85.
    pub max_celsius: u8,
    /// Most bytes that peers may send and get in a local day: afterwards nothing new is taken; 0 for no limit (default).
    pub network_bytes_per_day: u64,
    /// Whether to take nothing new while the network is known to be metered; default yes.
    pub only_on_unmetered_network: bool,
    /// Most memory that stopped work may hold, MiB: of what exceeds it, the latest is given up; default 1,024.
    pub suspended_memory_mib: u64,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            run_if_user_active: false,
            idle_time_to_run: 3,
            run_on_batteries: false,
            suspend_cpu_usage: 25,
            cpu_usage_limit: 100,
            max_ncpus_pct: 100,
            disk_max_used_gb: 10,
            hours: None,
            days: BTreeSet::new(),
            max_celsius: 85,
            network_bytes_per_day: 0,
            only_on_unmetered_network: true,
            suspended_memory_mib: 1_024,
        }
    }
}

impl Preferences {
    /// Work goes on whatever the owner does: for machines that do nothing else, and for trying things out.
    pub fn always() -> Self {
        Self {
            run_if_user_active: true,
            run_on_batteries: true,
            suspend_cpu_usage: 0,
            disk_max_used_gb: 0,
            max_celsius: 0,
            only_on_unmetered_network: false,
            ..Self::default()
        }
    }

    /// Whether the values make sense.
    ///
    /// # Errors
    /// A sentence that says what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        let percent = |name: &str, value: u8, least: u8, instead: &str| {
            if (least..=100).contains(&value) {
                return Ok(());
            }
            Err(format!("[preferences] {name} = {value}: write a percentage from {least} to 100{instead}"))
        };
        percent("suspend-cpu-usage", self.suspend_cpu_usage, 0, " (0 for never)")?;
        percent("cpu-usage-limit", self.cpu_usage_limit, 1, "; `conun provider pause` stops all work")?;
        percent("max-ncpus-pct", self.max_ncpus_pct, 1, "; `conun provider pause` stops all work")?;
        if self.idle_time_to_run > 24 * 60 {
            let given = self.idle_time_to_run;
            return Err(format!("[preferences] idle-time-to-run = {given}: write minutes, 0 to 1440 (a day)"));
        }
        if self.max_celsius != 0 && !(40..=120).contains(&self.max_celsius) {
            let given = self.max_celsius;
            return Err(format!(
                "[preferences] max-celsius = {given}: write degrees Celsius, 40 to 120, or 0 for never"
            ));
        }
        Ok(())
    }

    /// Processors that work may use of `processors`.
    pub fn processors(&self, processors: u32) -> u32 {
        (processors.saturating_mul(self.max_ncpus_pct.into()) / 100).max(1)
    }
}

/// A day of the week, local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// A part of the day, local time; it may go past midnight. Neither end of it is the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    /// First minute of the day in it.
    from: u16,
    /// First minute of the day after it.
    to: u16,
}

impl Hours {
    /// Whether a minute of the day, 0 to 1,439, is in it.
    pub fn contain(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            let (hour, minute): (u16, u16) =
                (digits(hour) && digits(minute)).then_some((hour.parse().ok()?, minute.parse().ok()?))?;
            let whole = hour * 60 + minute;
            (minute < 60 && whole <= 24 * 60).then_some(whole)
        };
        let ends = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        match ends {
            Some((from, to)) if from != to && from < 24 * 60 => Ok(Self { from, to }),
            _ => Err(format!(
                "hours = {text:?}: write two different times of the day, as \"22:00-07:00\"; leave it out for always"
            )),
        }
    }
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(out, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Preferences, String> {
        let read: Preferences = toml::from_str(text).map_err(|error| error.to_string())?;
        read.validate().map(|()| read)
    }

    #[test]
    fn what_is_left_out_has_its_default_and_all_is_written_as_it_is_read() {
        assert_eq!(read("").unwrap(), Preferences::default());
        let all = "hours = '22:30-07:00'\ndays = ['sun', 'sat']\nidle-time-to-run = 0\nmax-celsius = 0";
        let read = read(all).unwrap();
        assert_eq!(read.days, BTreeSet::from([Day::Sat, Day::Sun]));
        assert_eq!(toml::from_str::<Preferences>(&toml::to_string(&read).unwrap()).unwrap(), read);
        for preferences in [Preferences::default(), Preferences::always()] {
            preferences.validate().unwrap();
            assert_eq!(toml::from_str::<Preferences>(&toml::to_string(&preferences).unwrap()).unwrap(), preferences);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_write() {
        for (text, expected) in [
            ("cpu-usage-limit = 0", "cpu-usage-limit = 0: write a percentage from 1 to 100"),
            ("cpu-usage-limit = 101", "from 1 to 100"),
            ("max-ncpus-pct = 0", "`conun provider pause`"),
            ("suspend-cpu-usage = 101", "(0 for never)"),
            ("suspend-cpu-usage = 300", "u8"),
            ("idle-time-to-run = 1441", "minutes, 0 to 1440"),
            ("max-celsius = 39", "40 to 120, or 0 for never"),
            ("days = ['monday']", "`mon`, `tue`"),
            ("hours = '22-7'", "\"22:00-07:00\""),
            ("hours = '22:00-22:00'", "two different times"),
            ("hours = '24:00-07:00'", "two different times"),
            ("hours = '2:00-07:60'", "two different times"),
            ("hours = '+2:00-07:00'", "two different times"),
            ("run-on-battery = true", "unknown field `run-on-battery`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn hours_may_go_past_midnight() {
        let day: Hours = "08:00-20:00".parse().unwrap();
        let night: Hours = "20:00-08:00".parse().unwrap();
        let evening: Hours = "20:00-24:00".parse().unwrap();
        for minute in 0..24 * 60 {
            assert_ne!(day.contain(minute), night.contain(minute), "{minute}");
            assert_eq!(evening.contain(minute), minute >= 20 * 60, "{minute}");
        }
        assert!(day.contain(8 * 60) && !day.contain(20 * 60));
    }

    #[test]
    fn at_least_one_processor_is_left_to_work() {
        let of =
            |max_ncpus_pct, processors| Preferences { max_ncpus_pct, ..Preferences::default() }.processors(processors);
        assert_eq!([of(1, 8), of(50, 8), of(99, 8), of(100, 8), of(50, 1)], [1, 4, 7, 8, 1]);
    }
}
