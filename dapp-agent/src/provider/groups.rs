//! Which requesters belong to the groups that the owner keeps to. A group is a member list on the chain, a contract with the `balanceOf` of
//! EIP-20 and EIP-721: whoever has something of it is a member.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use alloy::{primitives::Address, providers::DynProvider};
use conun_bindings::abi::MemberList;

use crate::chain::Index;

/// Time until a member is asked about again.
const FRESH: Duration = Duration::from_secs(600);

/// The same of anybody else, who may be one by then.
const AGAIN: Duration = Duration::from_secs(30);

/// Most requesters that lists are asked about at a time.
const AT_ONCE: usize = 32;

/// What lists say of requesters; why not, where one of them did not answer and no other has them.
pub(super) type Answers = BTreeMap<Address, Result<bool, String>>;

/// Whether `list` has `account`.
///
/// # Errors
/// If there is no such list, or the endpoint does not answer, in words.
pub async fn is_member(reader: &DynProvider, list: Address, account: Address) -> Result<bool, String> {
    let balance = MemberList::new(list, reader).balanceOf(account).call().await;
    balance.map(|balance| !balance.is_zero()).map_err(|error| {
        format!(
            "the group {list} does not say who its members are: `groups` in provider.toml takes addresses of contracts with balanceOf (EIP-20, \
             EIP-721): {error}"
        )
    })
}

/// Asks all lists about each requester, until one has it.
pub(super) async fn ask(reader: DynProvider, lists: BTreeSet<Address>, requesters: Vec<Address>) -> Answers {
    let mut answers = Answers::new();
    for requester in requesters {
        let mut answer = Ok(false);
        for list in &lists {
            match is_member(&reader, *list, requester).await {
                Ok(true) => {
                    answer = Ok(true);
                    break;
                }
                Ok(false) => {}
                Err(text) => answer = Err(text),
            }
        }
        answers.insert(requester, answer);
    }
    answers
}

/// Who is to be asked about, and when.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) lists: BTreeSet<Address>,
    /// When each requester with open jobs is asked about again.
    due: HashMap<Address, Instant>,
    /// What was wrong last.
    trouble: Option<String>,
}

impl Groups {
    pub(super) fn new(lists: BTreeSet<Address>) -> Self {
        Self { lists, due: HashMap::new(), trouble: None }
    }

    /// Requesters of open jobs whose time it is at `now`: those first who were never asked about.
    pub(super) fn due(&mut self, index: &Index, now: Instant) -> Vec<Address> {
        if self.lists.is_empty() {
            return Vec::new();
        }
        let open = index.jobs.values().filter(|entry| !entry.cancelled && !entry.is_over());
        let open: BTreeSet<_> = open.map(|entry| entry.job.requester).collect();
        self.due.retain(|requester, _| open.contains(requester));
        let time = |requester: &Address| self.due.get(requester).copied();
        let mut due: Vec<_> = open.into_iter().filter(|one| time(one).is_none_or(|at| at <= now)).collect();
        due.sort_by_key(time);
        due.truncate(AT_ONCE);
        self.due.extend(due.iter().map(|requester| (*requester, now + AGAIN)));
        due
    }

    /// Takes in answers that came at `now`: what is known by them, and what is wrong, if that is news.
    pub(super) fn learn(&mut self, answers: Answers, now: Instant) -> (BTreeMap<Address, bool>, Option<String>) {
        let (mut known, mut trouble) = (BTreeMap::new(), None);
        for (requester, answer) in answers {
            match answer {
                Ok(is_member) => {
                    known.insert(requester, is_member);
                    let time = if is_member { FRESH } else { AGAIN };
                    self.due.entry(requester).and_modify(|at| *at = now + time);
                }
                Err(text) => trouble = Some(text),
            }
        }
        let news = trouble.clone().filter(|text| self.trouble.as_ref() != Some(text));
        self.trouble = trouble;
        (known, news)
    }
}
