//! What other programs use of the processors: all of `/proc/stat`, less the agent and its workers.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::{Path, PathBuf},
};

use super::entries;

/// Readings over which the mean is taken: the owner waits for them when all processors are wanted at once.
const SPAN: usize = 3;

/// Processor time since the start, in the kernel's ticks.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Of all programs.
    busy: u64,
    /// Of the agent and its workers.
    own: u64,
    /// Everything, idle time included.
    total: u64,
}

/// The processors' time, by samples.
#[derive(Debug)]
pub(super) struct Load {
    proc: PathBuf,
    agent: u32,
    samples: VecDeque<Sample>,
}

impl Load {
    pub(super) fn new(proc: PathBuf, agent: u32) -> Self {
        Self { proc, agent, samples: VecDeque::new() }
    }

    /// Percent of all processors that others have used since up to three readings ago; `None` at the first reading.
    pub(super) fn others_percent(&mut self) -> Option<u8> {
        let (busy, total) = machine(&std::fs::read_to_string(self.proc.join("stat")).ok()?)?;
        self.samples.push_back(Sample { busy, own: self.own(), total });
        if self.samples.len() > SPAN + 1 {
            self.samples.pop_front();
        }
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let total = last.total.checked_sub(first.total).filter(|total| *total > 0)?;
        // Counters of an ended process may be missing for a moment: less than nothing is nothing.
        let others = last.busy.saturating_sub(first.busy).saturating_sub(last.own.saturating_sub(first.own));
        u8::try_from((others * 100 / total).min(100)).ok()
    }

    /// Ticks of the agent and all that it has started, with what those that have ended left behind.
    fn own(&self) -> u64 {
        let numbers = entries(&self.proc);
        let ids = numbers.iter().filter_map(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
        let mut processes: HashMap<u32, Process> = HashMap::new();
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for id in ids {
            let Some(process) = read(&self.proc, id) else { continue };
            children.entry(process.parent).or_default().push(id);
            processes.insert(id, process);
        }
        let mut ticks = 0;
        let mut seen = HashSet::new();
        let mut next = vec![self.agent];
        while let Some(id) = next.pop() {
            if seen.insert(id) {
                ticks += processes.get(&id).map_or(0, |process| process.ticks);
                next.extend(children.get(&id).into_iter().flatten());
            }
        }
        ticks
    }
}

/// Busy and total ticks of all processors, from `/proc/stat`. What a hypervisor has taken away is nobody's.
fn machine(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are within user and nice.
    let [user, nice, system, idle, iowait, irq, softirq, steal] = fields.get(..8)?.try_into().ok()?;
    let busy = user + nice + system + irq + softirq;
    Some((busy, busy + idle + iowait + steal))
}

struct Process {
    parent: u32,
    ticks: u64,
}

fn read(proc: &Path, id: u32) -> Option<Process> {
    let text = std::fs::read_to_string(proc.join(id.to_string()).join("stat")).ok()?;
    // The name before it is in parentheses, and may hold anything.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    // utime, stime, cutime, cstime.
    let times: Vec<u64> = fields.skip(9).take(4).map_while(|field| field.parse().ok()).collect();
    (times.len() == 4).then(|| Process { parent, ticks: times.iter().sum() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with an agent (40), its worker (41), a worker's child (42), and somebody's browser (50).
    fn write(proc: &Path, busy: u64, idle: u64, ticks: [u64; 4]) {
        std::fs::create_dir_all(proc).unwrap();
        std::fs::write(proc.join("stat"), format!("cpu  {busy} 0 0 {idle} 0 0 0 9 0 0\ncpu0 1 2 3\n")).unwrap();
        for ((id, parent, name), ticks) in
            [(40, 1, "conun"), (41, 40, "a) S 1 (b"), (42, 41, "x"), (50, 1, "browser")].into_iter().zip(ticks)
        {
            std::fs::create_dir_all(proc.join(id.to_string())).unwrap();
            let text = format!("{id} ({name}) S {parent} 1 1 0 -1 4194304 1 0 0 0 {ticks} 0 0 0 39 19 1 0 5 6 7");
            std::fs::write(proc.join(id.to_string()).join("stat"), text).unwrap();
        }
    }

    #[test]
    fn the_agent_and_what_it_has_started_are_not_others() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        write(proc, 1_000, 1_000, [100, 200, 50, 300]);
        let mut load = Load::new(proc.to_owned(), 40);
        assert_eq!(load.others_percent(), None);
        // 600 of 1,000 ticks are busy; 500 of them are ours.
        write(proc, 1_600, 1_400, [150, 500, 200, 400]);
        assert_eq!(load.others_percent(), Some(10));
    }

    #[test]
    fn only_the_last_readings_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut load = Load::new(folder.path().to_owned(), 40);
        let mut busy = 0;
        for reading in 0..=SPAN as u64 {
            busy += 100;
            write(folder.path(), busy, 0, [0; 4]);
            assert_eq!(load.others_percent(), (reading > 0).then_some(100));
        }
        for reading in 1..=SPAN as u64 {
            write(folder.path(), busy, reading * 100, [0; 4]);
            assert_eq!(u64::from(load.others_percent().unwrap()), (SPAN as u64 - reading) * 100 / SPAN as u64);
        }
    }

    #[test]
    fn what_is_no_such_file_tells_nothing() {
        for text in ["", "cpu  1 2 3", "cpu  a b c d e f g h", "cpus 1 2 3 4 5 6 7 8"] {
            assert_eq!(machine(text), None, "{text}");
        }
    }
}
