//! Disks that are full, fail, or may only be read, and journals that are torn.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use alloy::primitives::B256;
use conun_agent::{
    chain::{BatchStage, Index, ReplicaStage},
    provider::{Running, disk_trouble},
    store::{Journal, ResultRecord, Salt},
};
use conun_bindings::deploy::TOKEN;
use tempfile::TempDir;

use crate::{
    Item, Plan,
    crash::{assert_one_commit_a_slot, assert_one_content_a_nonce},
    machine::{Machine, Point},
    market::{Market, Seat, greetings, greetings_for},
    random::Random,
};

/// When the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// While leased batches are executed.
    Executing,
    /// Between commit and reveal.
    Committed,
}

/// What fails.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Every operation on the journal.
    Journal(ErrorKind),
    /// Whatever needs room, of all files.
    Full,
}

pub(crate) fn items(plan: &Plan, round: u64) -> Vec<Item> {
    let faults = [
        (Fault::Full, "disk full"),
        (Fault::Journal(ErrorKind::StorageFull), "journal without room"),
        (Fault::Journal(ErrorKind::Other), "journal with I/O errors"),
        (Fault::Journal(ErrorKind::ReadOnlyFilesystem), "journal read-only"),
    ];
    let mut items = Vec::new();
    for (fault, kind) in faults {
        for phase in [Phase::Executing, Phase::Committed] {
            let anvil = plan.anvil.clone();
            items.push(Item {
                kind: kind.to_owned(),
                name: format!("{phase:?} {round}"),
                always: matches!(fault, Fault::Full) || phase == Phase::Committed,
                run: Box::pin(fail(anvil, fault, phase)),
            });
        }
    }
    for part in 0..TEARS / TEARS_AT_ONCE {
        let first = round * TEARS + part * TEARS_AT_ONCE;
        items.push(Item {
            kind: "journal torn".to_owned(),
            name: format!("seeds from {first}"),
            always: part < 2,
            run: Box::pin(async move {
                let seeds = first..first + TEARS_AT_ONCE;
                tokio::task::spawn_blocking(move || seeds.map(tear).sum()).await.unwrap()
            }),
        });
    }
    items
}

/// A file system of its own, in memory.
#[derive(Debug)]
struct SmallDisk {
    folder: TempDir,
    filler: Option<Filler>,
}

/// Another program that takes all room there is, again and again.
#[derive(Debug)]
struct Filler {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Time between its attempts.
const FILL: Duration = Duration::from_millis(1);

impl Filler {
    fn start(mut ballast: File) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let until = ended.clone();
        let mut fill = move || {
            // Single bytes at the end, so that none is left.
            for size in [1 << 20, 1 << 12, 1] {
                while ballast.write_all(&vec![1; size]).is_ok() {}
            }
        };
        // Full once this returns.
        fill();
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                fill();
                std::thread::sleep(FILL);
            }
        });
        Self { ended, thread }
    }

    fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

impl SmallDisk {
    /// None where file systems cannot be mounted.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=48m", "conun-faults"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { folder, filler: None })
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    fn fill(&mut self) {
        self.filler = Some(Filler::start(File::create(self.ballast()).unwrap()));
    }

    fn empty(&mut self) {
        self.filler.take().into_iter().for_each(Filler::end);
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.filler.take().into_iter().for_each(Filler::end);
        // What cannot be unmounted is the system's to clean up.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).output();
    }
}

fn shows_all(index: &Index, job: B256, provider: alloy::primitives::Address, stage: fn(&ReplicaStage) -> bool) -> bool {
    let entry = index.job(&job);
    entry
        .is_some_and(|entry| entry.ballots().all(|ballot| ballot.stage_of(provider).is_some_and(|found| stage(&found))))
}

/// A disk that fails in the midst of a job and works again later. Returns how many faults there were; 0 where it cannot be tried.
async fn fail(anvil: Option<PathBuf>, fault: Fault, phase: Phase) -> u64 {
    let mut small = match fault {
        Fault::Full => match SmallDisk::mount() {
            Some(small) => Some(small),
            None => return 0,
        },
        Fault::Journal(_) => None,
    };
    let market = Market::open(anvil.as_deref()).await;
    let machine = Machine::new(None, 0);
    let mut seat = match &small {
        Some(small) => market.seat_in(1, machine.clone(), small.folder.path().join("provider")).await,
        None => market.seat(1, machine.clone()).await,
    };
    seat.real_disk = small.is_some();
    let (account, stake) = (seat.account(), market.stake(seat.account()).await);
    let mut break_disk = |on: bool| match (fault, &mut small) {
        (Fault::Journal(kind), _) => drop(machine.fail_disk(on.then_some(kind))),
        (Fault::Full, Some(small)) if on => small.fill(),
        (Fault::Full, small) => small.iter_mut().for_each(SmallDisk::empty),
    };
    let other = market.seat(2, Machine::new(None, 0)).await;
    let mut requester = market.requester().await;
    let mut agent = seat.boot().await;
    agent.ready().await;

    market.chain.stop_time(true);
    let terms = (phase == Phase::Committed).then_some("replicas = 2\nlimit = 2");
    let job = requester.post(&greetings(terms)).await.unwrap().job;
    market.chain.stop_time(false);
    if phase == Phase::Committed {
        let committed = |stage: &ReplicaStage| matches!(stage, ReplicaStage::Committed { .. });
        market.until("commits", |index| shows_all(index, job, account, committed)).await;
        break_disk(true);
        // The other one's commits end the round.
        let (others, other) = (other.account(), other.boot().await);
        let both = |index: &Index| index.job(&job).is_some_and(|entry| entry.ballots().all(|one| one.committed() == 2));
        market.until("both's commits", both).await;
        // How fast this machine is has no part in who reveals in time.
        market.chain.stop_time(true);
        let revealed = |stage: &ReplicaStage| matches!(stage, ReplicaStage::Revealed { .. });
        market.until("reveals", |index| shows_all(index, job, account, revealed)).await;
        market.until("the other one's reveals", |index| shows_all(index, job, others, revealed)).await;
        assert_told(&mut agent).await;
        // Nobody else has the outputs: they come from where this one holds them.
        other.crash().await.unwrap();
        let ledger = market.follow(&mut requester, job).await;
        market.chain.stop_time(false);
        assert_eq!(ledger.providers.len(), 2, "{ledger:?}");
    } else {
        agent.until("lease", |event| matches!(event, Running::Leased(..)).then_some(())).await;
        break_disk(true);
        assert_told(&mut agent).await;
    }

    // Nothing new, unless it found room for a moment before the other program did, and said so.
    let next = requester.post(&greetings_for(TOKEN + 1, None)).await.unwrap().job;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let follower = market.follower().await;
    let batches = &follower.index().job(&next).unwrap().batches;
    let said = agent.said();
    let had_room = said.iter().any(|event| matches!(event, Running::Guest(text) if text.contains("written again")));
    assert!(had_room || batches.iter().all(|batch| batch.stage == BatchStage::Open), "{said:?}; {batches:?}");
    break_disk(false);
    if phase == Phase::Executing {
        market.follow(&mut requester, job).await;
    }
    let ledger = market.follow(&mut requester, next).await;
    assert_eq!(
        ledger.providers.iter().map(|provider| (provider.account, provider.batches)).collect::<Vec<_>>(),
        [(account, 2)]
    );
    assert_eq!(market.stake(account).await, stake);
    agent.crash().await.unwrap();
    assert_one_content_a_nonce(account, &machine.reached());
    assert_one_commit_a_slot(&machine.reached());
    assert_sound(&seat);
    requester.shutdown().await;
    machine.fail_disk(None).max(1)
}

/// It says that nothing can be kept.
async fn assert_told(agent: &mut crate::market::Agent) {
    agent
        .until("word of the disk", |event| match event {
            Running::Trouble(text) => text.contains("takes nothing new until that has changed").then_some(()),
            _ => None,
        })
        .await;
}

/// Everything in the folder can be read.
fn assert_sound(seat: &Seat) {
    assert_eq!(disk_trouble(&seat.folder), None);
    drop(Journal::open(&seat.folder).unwrap());
    let events = std::fs::read_to_string(seat.folder.join("events.jsonl")).unwrap();
    for line in events.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

/// Torn journals a round.
const TEARS: u64 = 1_000;

const TEARS_AT_ONCE: u64 = 50;

/// Writes into a journal whose power goes in the middle, several times; each time all that was said to be kept is there.
fn tear(seed: u64) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new(seed);
    let mut kept: Vec<(u32, ResultRecord)> = Vec::new();
    let mut tears = 0;
    for life in 0..4 {
        let machine = Machine::new(Some(Point::TornSync(1 + random.below(12))), seed ^ life << 32);
        let disk = machine.clone();
        let journal = match Journal::open_on(folder.path(), move |file| disk.disk(file)) {
            Ok(journal) => journal,
            Err(error) => {
                assert!(machine.is_dead(), "a torn journal cannot be opened: {error}");
                tears += 1;
                continue;
            }
        };
        assert_kept(&journal, &kept);
        while !machine.is_dead() {
            let batch = kept.len() as u32;
            if random.below(3) == 0 {
                let batches: Vec<_> = (0..random.below(40) as u32).collect();
                // Whether it is kept is of no account.
                let _ = journal.intend_lease(B256::repeat_byte(1), &batches, life);
            }
            let [fuel, salt] = [random.next(), random.next()];
            let [root, outputs, bound] = [B256::repeat_byte(salt as u8); 3];
            let record =
                ResultRecord { root, fuel, outputs, bound, salt: Salt(B256::left_padding_from(&salt.to_be_bytes())) };
            // One that was said not to be kept may be all the same: then it stays.
            match journal.keep_result(B256::ZERO, batch, record) {
                Ok(first) => kept.push((batch, first)),
                Err(_) => assert!(machine.is_dead()),
            }
        }
        tears += 1;
    }
    assert_kept(&Journal::open(folder.path()).unwrap(), &kept);
    tears
}

fn assert_kept(journal: &Journal, kept: &[(u32, ResultRecord)]) {
    for (batch, record) in kept {
        assert_eq!(journal.result(B256::ZERO, *batch).unwrap(), Some(*record));
    }
}
