//! Temperatures: `/sys/class/thermal` and the processors' sensors in `/sys/class/hwmon`.

use std::path::Path;

use super::{entries, line};

/// Chips whose temperatures are the processor's. Disks and radios have other limits.
const PROCESSORS: &[&str] = &["coretemp", "k10temp", "k8temp", "zenpower", "cpu_thermal", "soc_thermal", "via_cputemp"];

/// What a sensor of a computer that works can say, thousandths of a degree Celsius. Some say nonsense while they sleep.
const PLAUSIBLE: std::ops::RangeInclusive<i32> = -40_000..=150_000;

/// The hottest sensor, degrees Celsius.
pub(super) fn hottest(sys: &Path) -> Option<i16> {
    let zones = entries(&sys.join("class/thermal")).into_iter().map(|zone| zone.join("temp"));
    let chips = entries(&sys.join("class/hwmon"))
        .into_iter()
        .filter(|chip| line(&chip.join("name")).is_some_and(|name| PROCESSORS.contains(&name.as_str())));
    let inputs = chips.flat_map(|chip| entries(&chip)).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("temp") && name.ends_with("_input")
    });
    let read = |path: std::path::PathBuf| line(&path)?.parse::<i32>().ok().filter(|value| PLAUSIBLE.contains(value));
    zones.chain(inputs).filter_map(read).max().and_then(|hottest| i16::try_from(hottest / 1_000).ok())
}
