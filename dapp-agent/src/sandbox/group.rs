//! A control group of the workers' own, where the system lets the agent have one.
//!
//! systemd [gives](https://systemd.io/CGROUP_DELEGATION/) a unit with `Delegate=` a part of the hierarchy of control groups to divide as it
//! likes. There the agent is in one group and the workers are in another that gives way to it: however many they are, the agent
//! keeps its deadlines. How the two stand to the owner's programs is for the unit's slice.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the only hierarchy is, if there is one for all controllers (cgroup v2).
const HIERARCHY: &str = "/sys/fs/cgroup";

/// The two groups into which the agent's own is divided.
#[derive(Clone, Debug)]
pub(super) struct Group {
    agent: PathBuf,
    workers: PathBuf,
}

impl Group {
    /// Divides the group in which this process is.
    ///
    /// # Errors
    /// Why it cannot be had; then workers are in the agent's group.
    pub(super) fn divide() -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).filter(|own| !own.is_empty());
        let group = Path::new(HIERARCHY).join(own.ok_or("this process is in no group of its own (cgroup v2)")?);
        Self::divide_at(&group).map_err(|error| format!("{}: {error}", group.display()))
    }

    fn divide_at(group: &Path) -> io::Result<Self> {
        let controllers = fs::read_to_string(group.join("cgroup.controllers"))?;
        if !controllers.split_whitespace().any(|name| name == "cpu") {
            return Err(io::Error::other("processors are not its to share out (`Delegate=cpu io` of a systemd unit)"));
        }
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
        // Disks are not everybody's to share out.
        fs::write(&share, "+cpu +io").or_else(|_| fs::write(&share, "+cpu"))?;
        // Of 1 to 10000; the agent has 100.
        fs::write(made.workers.join("cpu.weight"), "1")?;
        let _ = fs::write(made.workers.join("io.weight"), "1");
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
    use std::time::Duration;

    use super::*;
    use crate::sandbox::{Error, Sandbox};

    #[test]
    fn a_group_is_divided_between_the_agent_and_its_workers() {
        let folder = tempfile::tempdir().unwrap();
        let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
        let controllers = |names: &str| fs::write(folder.path().join("cgroup.controllers"), names).unwrap();
        controllers("cpuset memory\n");
        assert!(Group::divide_at(folder.path()).unwrap_err().to_string().contains("Delegate="));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is made");
        controllers("cpuset cpu memory\n");
        // Also when it was divided before.
        for _ in 0..2 {
            let group = Group::divide_at(folder.path()).unwrap();
            assert_eq!((read("agent/cgroup.procs"), read("cgroup.subtree_control")), ("0".into(), "+cpu +io".into()));
            assert_eq!((read("workers/cpu.weight"), read("workers/io.weight")), ("1".into(), "1".into()));
            group.take(17).unwrap();
            assert_eq!(read("workers/cgroup.procs"), "17");
            group.let_go(17);
            assert_eq!(read("agent/cgroup.procs"), "17");
        }
    }

    #[tokio::test]
    async fn a_worker_is_in_the_workers_group_until_it_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu").unwrap();
        // A worker that says nothing, and is killed for it.
        let mut sandbox = Sandbox::new("/bin/sleep".into(), ["60"]);
        sandbox.group = Some(Group::divide_at(folder.path()).unwrap());
        let error = sandbox.confinement(Duration::from_millis(200)).await.unwrap_err();
        assert!(matches!(error, Error::TooSlow(_)), "{error}");
        let process = |group: &str| fs::read_to_string(folder.path().join(group).join("cgroup.procs")).unwrap();
        assert!(process("workers").parse::<u32>().unwrap() > 1);
        assert_eq!(process("agent"), process("workers"));
    }

    #[test]
    fn what_cannot_be_divided_is_told() {
        let none = Group::divide_at(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
    }
}
