//! Linux: `/proc`, `/sys`, `/dev`, and the system bus. All of them below a root that a test may choose.

mod bus;
mod disk;
mod heat;
mod input;
mod load;
mod power;

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{Readings, Sensors};
use bus::Bus;
use load::Load;

/// Time between looks at what changes slowly and takes longer to see: the data folder's size, and the network.
const SLOWLY: Duration = Duration::from_secs(60);

/// The sensors of one computer.
#[derive(Debug)]
pub struct Computer {
    root: PathBuf,
    folder: PathBuf,
    load: Load,
    bus: Bus,
    slow: Option<(Instant, Slow)>,
}

#[derive(Clone, Copy, Debug)]
struct Slow {
    data_bytes: Option<u64>,
    metered: Option<bool>,
}

impl Computer {
    /// This computer, for an agent whose data is in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self::at(Path::new("/"), folder, std::process::id(), None)
    }

    /// A computer whose `proc`, `sys` and `dev` are below `root`, where the agent is process `agent`; `bus` is the address of the
    /// system bus if it is not at its usual place.
    pub fn at(root: &Path, folder: &Path, agent: u32, bus: Option<&str>) -> Self {
        let (root, folder) = (root.to_owned(), folder.to_owned());
        Self { load: Load::new(root.join("proc"), agent), bus: Bus::new(bus), root, folder, slow: None }
    }

    async fn slow(&mut self) -> Slow {
        match self.slow {
            Some((at, slow)) if at.elapsed() < SLOWLY => slow,
            _ => {
                let folder = self.folder.clone();
                let used = tokio::task::spawn_blocking(move || disk::used(&folder)).await;
                let slow = Slow { data_bytes: used.ok(), metered: self.bus.metered().await };
                self.slow = Some((Instant::now(), slow));
                slow
            }
        }
    }
}

impl Sensors for Computer {
    async fn read(&mut self) -> Readings {
        let Slow { data_bytes, metered } = self.slow().await;
        let idle_seconds = match self.bus.idle_seconds().await {
            Some(seat) => seat,
            // No logind: as `w` tells.
            None => input::idle_seconds(&self.root.join("dev")),
        };
        Readings {
            others_cpu_percent: self.load.others_percent(),
            on_battery: power::on_battery(&self.root.join("sys")),
            celsius: heat::hottest(&self.root.join("sys")),
            data_bytes,
            free_bytes: super::free_bytes(&self.folder).ok(),
            metered,
            idle_seconds,
        }
    }
}

/// Memory of a process that is in RAM, bytes, what its open files in memory hold with it; 0 if there is no such process.
pub fn resident_bytes(process: u32) -> u64 {
    // Such a file has no name in any folder; a pipe has no length.
    let open = entries(Path::new(&format!("/proc/{process}/fd")));
    let files = open.iter().filter_map(|file| file.metadata().ok()).filter(|file| file.is_file() && file.nlink() == 0);
    let outside: u64 = files.map(|file| file.blocks() * 512).sum();
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) * 1024 + outside
}

/// The first line of a small file, if it can be read.
fn line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// What a folder holds, in alphabetical order; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort_unstable();
    found
}
