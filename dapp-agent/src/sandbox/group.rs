//! A control group of the workers' own, where the system lets the agent have one.
//!
//! systemd gives a unit with `Delegate=` a part of the hierarchy of control groups to divide as it likes, and
//! [marks it](https://systemd.io/CGROUP_DELEGATION/). There the agent is in one group and the workers are in another, to which it
//! gives way: however many they are, the agent keeps its deadlines. How the two stand to the owner's programs is for the unit's slice.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the only hierarchy is, if there is one for all controllers (cgroup v2).
const HIERARCHY: &str = "/sys/fs/cgroup";

/// What systemd writes on a group that is its unit's to divide, with the value `1`.
const MARK: &str = "user.delegate";

/// The two groups into which the agent's own is divided.
#[derive(Clone, Debug)]
pub(super) struct Group {
    agent: PathBuf,
    workers: PathBuf,
}

impl Group {
    /// Divides the group in which this process is. `guest`: workers get a processor only when the agent wants none.
    ///
    /// # Errors
    /// Why it cannot be had; then workers are in the agent's group.
    pub(super) fn divide(guest: bool) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let group = Path::new(HIERARCHY).join(own.ok_or("the kernel has no control groups of the second version")?);
        let mut mark = [0; 1];
        match rustix::fs::getxattr(&group, MARK, &mut mark) {
            Ok(1) if mark == *b"1" => {}
            _ => return Err("its control group is not its own (`Delegate=` of a systemd unit)".to_owned()),
        }
        Self::divide_at(&group, guest).map_err(|error| format!("{}: {error}", group.display()))
    }

    fn divide_at(group: &Path, guest: bool) -> io::Result<Self> {
        let made = Self { agent: group.join("agent"), workers: group.join("workers") };
        for dir in [&made.agent, &made.workers] {
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        // A group shares out processors only if no process is in it itself.
        enter(&made.agent, 0)?;
        let share = group.join("cgroup.subtree_control");
        // Disks are not everybody's to share out; nor is the least weight of all, before Linux 5.15.
        fs::write(&share, "+cpu +io").or_else(|_| fs::write(&share, "+cpu"))?;
        let set = |file: &str, value: &str| fs::write(made.workers.join(file), value);
        match guest {
            true => set("cpu.idle", "1").or_else(|_| set("cpu.weight", "1"))?,
            false => set("cpu.weight", "1")?,
        }
        let _ = set("io.weight", "1");
        Ok(made)
    }

    /// Moves a worker that was started as the agent's child to the workers' group.
    pub(super) fn take(&self, process: u32) -> io::Result<()> {
        enter(&self.workers, process)
    }

    /// Moves a worker back, so that it can end when nobody has a processor to spare.
    pub(super) fn let_go(&self, process: u32) {
        let _ = enter(&self.agent, process);
    }
}

/// Moves a process, 0 for this one, into a group.
fn enter(group: &Path, process: u32) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), process.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_divided_between_the_agent_and_its_workers() {
        let folder = tempfile::tempdir().unwrap();
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        for guest in [true, false] {
            let group = Group::divide_at(folder.path(), guest).unwrap();
            assert_eq!((read("agent/cgroup.procs"), read("cgroup.subtree_control")), ("0".into(), "+cpu +io".into()));
            assert_eq!(read("workers/io.weight"), "1");
            assert_eq!(read(if guest { "workers/cpu.idle" } else { "workers/cpu.weight" }), "1");
            group.take(17).unwrap();
            assert_eq!(read("workers/cgroup.procs"), "17");
            group.let_go(17);
            assert_eq!(read("agent/cgroup.procs"), "17");
        }
    }

    #[test]
    fn what_nobody_gave_it_the_agent_does_not_divide() {
        let error = Group::divide(true).unwrap_err();
        assert!(error.contains("Delegate=") || error.contains("second version"), "{error}");
        assert!(Group::divide_at(Path::new("/nonexistent"), true).is_err());
    }
}
