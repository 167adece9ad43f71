//! The grid's fabric: what this computer has, and whether its owner needs it now.
//!
//! [`Preferences`] say what the owner allows, [`Sensors`] what is going on, and [`Judge`], which is pure, what follows. Nothing
//! here stops or starts anything: `provider` does.
//!
//! What a sensor cannot tell is unknown, and what is unknown forbids nothing: a computer without a thermometer is not too hot.

pub mod bench;
mod decide;
#[cfg(target_os = "linux")]
pub mod linux;
mod preferences;

pub use decide::{CALM, Judge, Limits, Moment, Reason, Verdict};
pub use preferences::{Day, Hours, Preferences};

use std::{future::Future, sync::Arc};

use serde::Serialize;
use tokio::sync::Mutex;

/// What the sensors say; `None` where they cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Readings {
    /// Processor time of other programs than the agent and its workers, percent of all processors, mean of some seconds.
    pub others_cpu_percent: Option<u8>,
    /// Whether the computer runs on battery.
    pub on_battery: Option<bool>,
    /// The hottest sensor, degrees Celsius.
    pub celsius: Option<i16>,
    /// Size of the data folder, bytes.
    pub data_bytes: Option<u64>,
    /// What is free on its disk, bytes.
    pub free_bytes: Option<u64>,
    /// Whether the network costs by the byte.
    pub metered: Option<bool>,
    /// Seconds since somebody's last input at this computer.
    pub idle_seconds: Option<u64>,
}

/// Where readings come from.
pub trait Sensors: Send + 'static {
    /// Looks at everything once; takes a few seconds at most.
    fn read(&mut self) -> impl Future<Output = Readings> + Send;
}

/// Sensors that several lives of an agent look at, one after the other.
#[derive(Debug)]
pub(crate) struct Shared<S>(Arc<Mutex<S>>);

impl<S> Shared<S> {
    pub(crate) fn new(sensors: S) -> Self {
        Self(Arc::new(Mutex::new(sensors)))
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Sensors> Sensors for Shared<S> {
    async fn read(&mut self) -> Readings {
        self.0.lock().await.read().await
    }
}

/// This computer's sensors, for an agent whose data is in `folder`.
#[cfg(target_os = "linux")]
pub fn sensors(folder: &std::path::Path) -> impl Sensors + use<> {
    linux::Computer::new(folder)
}

/// This computer's sensors: none on this system yet.
#[cfg(not(target_os = "linux"))]
pub fn sensors(_: &std::path::Path) -> impl Sensors + use<> {
    Blind
}

/// Sensors that can tell nothing.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Blind;

#[cfg(not(target_os = "linux"))]
impl Sensors for Blind {
    async fn read(&mut self) -> Readings {
        Readings::default()
    }
}

/// What is free on a folder's disk, bytes, for those who are not root.
///
/// # Errors
/// If the file system cannot be asked.
pub fn free_bytes(folder: &std::path::Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
