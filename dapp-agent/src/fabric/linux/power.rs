//! Mains or battery: `/sys/class/power_supply`.

use std::path::Path;

use super::{entries, line};

/// Whether the computer runs on battery; `None` if it cannot be told. Without a battery it does not.
///
/// Batteries of mice and keyboards say `scope` `Device`; those of the computer nothing, or `System`.
pub(super) fn on_battery(sys: &Path) -> Option<bool> {
    let supplies = sys.join("class/power_supply");
    if !supplies.is_dir() {
        return None;
    }
    let mut discharging = false;
    let mut batteries = false;
    let mut unplugged = false;
    for supply in entries(&supplies) {
        let says = |name: &str| line(&supply.join(name)).unwrap_or_default();
        if says("scope") == "Device" {
            continue;
        }
        match says("type").as_str() {
            "Battery" | "UPS" => {
                batteries = true;
                discharging |= says("status") == "Discharging";
            }
            "Mains" | "USB" | "Wireless" => match says("online").as_str() {
                // One plug is enough; a battery may be drained beside it.
                "" | "0" => unplugged = true,
                _ => return Some(false),
            },
            _ => {}
        }
    }
    // A plug that nothing is in is none if there is no battery: then something else feeds the computer.
    Some(batteries && (discharging || unplugged))
}
