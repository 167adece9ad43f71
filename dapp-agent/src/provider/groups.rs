//! Which requesters belong to the groups that the owner keeps to. A group is a member list on the chain, a contract with the `balanceOf` of
//! EIP-20 and EIP-721: whoever has something of it is a member.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use alloy::{primitives::Address, providers::DynProvider};
use conun_bindings::abi::MemberList;

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
    /// Whether lists are being asked: an endpoint that is slow is not asked more and more.
    asking: bool,
    /// What was wrong last.
    trouble: Option<String>,
}

impl Groups {
    pub(super) fn new(lists: BTreeSet<Address>) -> Self {
        Self { lists, due: HashMap::new(), asking: false, trouble: None }
    }

    /// Whether anybody is to be asked about, if there are jobs.
    pub(super) fn may_ask(&self) -> bool {
        !self.lists.is_empty() && !self.asking
    }

    /// Of the requesters of `open` jobs those whose time it is at `now`: first those who were never asked about. What is said of them is to be
    /// [learnt](Self::learn) before others are.
    pub(super) fn due(&mut self, open: BTreeSet<Address>, now: Instant) -> Vec<Address> {
        self.due.retain(|requester, _| open.contains(requester));
        let time = |requester: &Address| self.due.get(requester).copied();
        let mut due: Vec<_> = open.into_iter().filter(|one| time(one).is_none_or(|at| at <= now)).collect();
        due.sort_by_key(time);
        due.truncate(AT_ONCE);
        self.due.extend(due.iter().map(|requester| (*requester, now + AGAIN)));
        self.asking = !due.is_empty();
        due
    }

    /// Takes in answers that came at `now`: what is known by them, and what is wrong, if that is news.
    pub(super) fn learn(&mut self, answers: Answers, now: Instant) -> (BTreeMap<Address, bool>, Option<String>) {
        self.asking = false;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn who(numbers: std::ops::Range<u8>) -> BTreeSet<Address> {
        numbers.map(Address::repeat_byte).collect()
    }

    #[test]
    fn new_requesters_are_asked_about_first_and_members_less_often() {
        let (now, mut groups) = (Instant::now(), Groups::new(who(200..201)));
        assert!(groups.may_ask() && !Groups::new(BTreeSet::new()).may_ask());
        let asked = groups.due(who(0..40), now);
        assert_eq!(asked.len(), AT_ONCE);
        assert!(!groups.may_ask(), "one question at a time");
        let said = asked.iter().map(|requester| (*requester, Ok(*requester == Address::repeat_byte(3))));
        let (known, trouble) = groups.learn(said.collect(), now);
        assert_eq!((known.len(), known.values().filter(|is_member| **is_member).count(), trouble), (AT_ONCE, 1, None));
        assert!(groups.may_ask());
        assert_eq!(BTreeSet::from_iter(groups.due(who(0..40), now)), who(32..40), "the rest");
        groups.learn(Answers::new(), now);
        assert_eq!(groups.due(who(0..41), now), [Address::repeat_byte(40)]);
        let later = groups.due(who(0..5), now + AGAIN);
        assert_eq!(later, [0, 1, 2, 4].map(Address::repeat_byte), "the member is believed for longer");
        assert_eq!(groups.due(who(3..4), now + FRESH), [Address::repeat_byte(3)]);
        assert_eq!(groups.due.len(), 1, "who has no open jobs is forgotten");
    }

    #[test]
    fn a_list_that_does_not_answer_changes_nothing_and_is_told_once() {
        let (now, mut groups) = (Instant::now(), Groups::new(who(200..201)));
        let failed =
            || Answers::from([(Address::ZERO, Err("no list".to_owned())), (Address::repeat_byte(1), Ok(true))]);
        let member = BTreeMap::from([(Address::repeat_byte(1), true)]);
        assert_eq!(groups.learn(failed(), now), (member.clone(), Some("no list".to_owned())));
        assert_eq!(groups.learn(failed(), now), (member, None));
        groups.learn(Answers::new(), now);
        assert!(groups.learn(failed(), now).1.is_some(), "again, after it went well");
    }
}
