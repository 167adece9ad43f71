use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::backends::FileBackend;

use super::*;

/// A disk that fails while it is told to.
#[derive(Debug)]
struct Failing {
    backend: FileBackend,
    fails: Arc<AtomicBool>,
}

impl Failing {
    fn backend(&self) -> io::Result<&FileBackend> {
        if self.fails.load(Ordering::Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(&self.backend) }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.backend()?.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend()?.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend()?.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend()?.write(offset, data)
    }
}

/// A journal whose disk fails while it is told to.
pub(crate) fn failing(folder: &Path) -> (Journal, Arc<AtomicBool>) {
    let fails: Arc<AtomicBool> = Arc::default();
    let told = fails.clone();
    let journal =
        Journal::open_on(folder, move |file| Ok(Failing { backend: FileBackend::new(file)?, fails: told.clone() }));
    (journal.unwrap(), fails)
}

#[test]
fn a_result_once_kept_stays_through_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let record = ResultRecord {
        root: B256::repeat_byte(1),
        fuel: 7,
        outputs: B256::repeat_byte(2),
        bound: B256::repeat_byte(3),
        salt: Salt::random().unwrap(),
    };
    {
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.result(B256::ZERO, 3).unwrap(), None);
        journal.keep_result(B256::ZERO, 3, record).unwrap();
        journal.intend_lease(B256::ZERO, &[4], 9).unwrap();
    }
    let journal = Journal::open(folder.path()).unwrap();
    let other = ResultRecord { fuel: 8, ..record };
    assert_eq!(journal.keep_result(B256::ZERO, 3, other).unwrap(), record, "never a second root");
    let other = ResultRecord { salt: Salt::random().unwrap(), ..record };
    assert!(other.agrees_with(&record));
    assert_eq!(journal.keep_result(B256::ZERO, 3, other).unwrap(), record, "never a second salt");
    assert!(!format!("{record:?}").contains(&alloy::primitives::hex::encode(record.salt.0)));
    assert!(journal.intended(B256::ZERO, 4).unwrap() && !journal.intended(B256::ZERO, 3).unwrap());
}

#[test]
fn what_cannot_be_read_is_an_error_and_not_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    journal
        .write(|transaction| {
            transaction.open_table(SENT)?.insert(0, &b"{"[..])?;
            transaction.open_table(RESULTS)?.insert(&key(B256::ZERO, 3)[..], &b"{}"[..])?;
            Ok(())
        })
        .unwrap();
    assert!(matches!(journal.sent(), Err(Error::Malformed { table: "sent", .. })));
    assert!(matches!(journal.result(B256::ZERO, 3), Err(Error::Malformed { table: "results", .. })));
    let record =
        ResultRecord { root: B256::ZERO, fuel: 1, outputs: B256::ZERO, bound: B256::ZERO, salt: Salt::default() };
    assert!(journal.keep_result(B256::ZERO, 3, record).is_err(), "never in place of what is there");
}

#[test]
fn a_second_agent_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Journal::open(folder.path()).unwrap();
    let error = Journal::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "{error}");
}

#[test]
fn a_journal_whose_disk_failed_is_opened_anew_and_stays_locked_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, fails) = failing(folder.path());
    let record =
        |fuel| ResultRecord { root: B256::ZERO, fuel, outputs: B256::ZERO, bound: B256::ZERO, salt: Salt::default() };
    journal.keep_result(B256::ZERO, 1, record(1)).unwrap();
    fails.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let error = journal.keep_result(B256::ZERO, 2, record(2)).unwrap_err();
        assert!(matches!(error, Error::Database { .. }), "{error}");
        assert!(journal.failure().is_some() && journal.probe().is_err());
        assert!(matches!(Journal::open(folder.path()), Err(Error::InUse(_))), "nobody else gets it");
    }
    fails.store(false, Ordering::Relaxed);
    journal.probe().unwrap();
    assert_eq!(journal.failure(), None);
    assert_eq!(journal.result(B256::ZERO, 1).unwrap(), Some(record(1)));
    assert_eq!(journal.keep_result(B256::ZERO, 2, record(3)).unwrap(), record(3));
    drop(journal);
    assert_eq!(Journal::open(folder.path()).unwrap().result(B256::ZERO, 2).unwrap(), Some(record(3)));
}

#[test]
fn a_journal_that_a_crash_left_half_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("journal.new"), [0; 4_096]).unwrap();
    drop(Journal::open(folder.path()).unwrap());
    assert!(!folder.path().join("journal.new").exists());
    Journal::open(folder.path()).unwrap().probe().unwrap();
    // One that was whole and is damaged is not made again: what was in it counts.
    std::fs::write(folder.path().join(FILE), [0; 4_096]).unwrap();
    assert!(matches!(Journal::open(folder.path()), Err(Error::Database { .. })));
}
