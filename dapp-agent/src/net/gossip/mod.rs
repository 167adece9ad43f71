//! Who is there, where, and which blobs each holds: told from member to member of a deployment, by lot.
//!
//! Members are whom the chain names ([`Book`]). Each signs a [`Notice`] of itself now and then. Two members that meet exchange what both have heard lately
//! (push and pull), so that a notice reaches all of n members within some log n rounds
//! ([Demers et al. 1987](https://doi.org/10.1145/41840.41841)). What is heard is a hint of where to ask, and never more: who may have what is the chain's to say, and
//! what a blob is, its hash.
//!
//! A member takes no more than one notice of each other one, checks it before it passes it on, and ends the connection of whoever passes on what nobody has
//! signed. What it says and asks for is bounded, whatever others do: a partner a round, [`MAX_NOTICES`] each way.

mod notice;
mod rounds;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use iroh::SecretKey;
use tokio::sync::Notify;

pub(super) use notice::Forged;
pub use notice::{MAX_HOLDS, MAX_NOTICE, Notice, SignedNotice};
pub(super) use rounds::run;

use super::PeerContact;
use crate::manifest::BlobHash;

/// Most notices in one message.
pub const MAX_NOTICES: usize = 64;

/// Block seconds after which a member says once more that it is there, at least.
const REFRESH: u64 = 900;

/// The same for each member, where there are many: without news a member hears 720 notices an hour at most.
const REFRESH_A_MEMBER: u64 = 5;

/// Block seconds by which views of the chain may differ.
const SKEW: u64 = 600;

/// Least time between two notices of a member.
const OWN_PAUSE: Duration = Duration::from_secs(10);

/// So many of another member are taken at once: it may have been started anew. Of what it says more often than that and a notice every
/// [`OWN_PAUSE`], the rest goes no further.
const BURST: u32 = 4;

/// Least time between two exchanges with a member that asks for them: what it tells is taken at any time.
const PARTNER_PAUSE: Duration = Duration::from_millis(500);

/// Most members that are remembered: by their longest notices some 15 MB.
const MAX_HEARD: usize = 4_096;

/// Most holders of a blob that are told.
const MAX_HOLDERS: usize = 4;

/// Rounds, one after the other, in which a member tells what it has just said itself.
const EAGER_ROUNDS: u32 = 3;

/// Time until the next of these.
const EAGER_PAUSE: Duration = Duration::from_secs(1);

/// Time until the next round, while there is something new to tell, for each member; at most [`LONGEST_PAUSE`].
const PAUSE_A_MEMBER: Duration = Duration::from_millis(500);

/// Time until the next round, while there is nothing to tell but that members are still there.
const LONGEST_PAUSE: Duration = Duration::from_secs(180);

/// Rounds with the author of a notice that are one of those in which it is told, while there are others to tell it to: two or three of them may
/// be all that a member meets in a minute, and the rest would never hear of it.
const ROUNDS_WITH_AUTHOR: u32 = 16;

/// A partner that was not reached is left alone for so long.
const AWAY: Duration = Duration::from_secs(60);

/// One that takes no part, or passes on what nobody has signed.
const UNWILLING: Duration = Duration::from_secs(3_600);

/// Members of a deployment's gossip, as the chain says.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// What notices are signed for: chain id, 8 bytes, big-endian, and address of `Deployment`.
    pub deployment: [u8; 28],
    /// Time of the latest block, UNIX seconds.
    pub time: u64,
    /// Whose notices count, and where the chain says that each of them is.
    pub members: HashMap<[u8; 32], PeerContact>,
    /// Those of them that let this endpoint in.
    pub partners: Vec<[u8; 32]>,
    /// Those that are no providers: what they say is for this endpoint, and not passed on.
    pub requesters: HashSet<[u8; 32]>,
}

impl Book {
    /// Block seconds after which a member says once more that it is there.
    fn refresh(&self) -> u64 {
        REFRESH.max(self.members.len() as u64 * REFRESH_A_MEMBER)
    }

    /// Whether what was said then is to be believed still.
    fn is_fresh(&self, time: u64) -> bool {
        (self.time.saturating_sub(3 * self.refresh() + SKEW)..=self.time.saturating_add(SKEW)).contains(&time)
    }

    /// Rounds in which news is told: with high probability all have heard it then.
    fn rounds(&self) -> u32 {
        self.members.len().max(1).ilog2() + 3
    }
}

/// What was heard of a member.
#[derive(Debug)]
struct Heard {
    notice: Notice,
    signed: SignedNotice,
    /// When.
    since: Instant,
    /// Rounds in which it is told still.
    rounds: u32,
    /// Rounds with its author so far.
    with_author: u32,
    /// Whether it says something that its author has not said before.
    is_new: bool,
    /// When its author will have been silent for long enough for all that was taken of it.
    even: Instant,
}

/// What this member has heard, and says itself.
#[derive(Debug)]
pub(super) struct Gossip {
    key: SecretKey,
    me: [u8; 32],
    state: Mutex<State>,
    /// There may be something new to tell.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By author; this member's own, too.
    heard: HashMap<[u8; 32], Heard>,
    holds: Vec<BlobHash>,
    eager: u32,
    /// When those that asked were answered last.
    answered: HashMap<[u8; 32], Instant>,
    /// Who is not asked until then.
    shunned: HashMap<[u8; 32], Instant>,
}

impl Gossip {
    pub(super) fn new(key: SecretKey) -> Self {
        let me = *key.public().as_bytes();
        Self { key, me, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing here can fail half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this member holds from now on; the first [`MAX_HOLDS`] are told.
    pub(super) fn hold(&self, mut holds: Vec<BlobHash>) {
        holds.truncate(MAX_HOLDS);
        let mut state = self.state();
        if state.holds != holds {
            state.holds = holds;
            self.changed.notify_one();
        }
    }

    /// Members that were heard of lately, without this one.
    pub(super) fn heard(&self) -> usize {
        self.state().heard.keys().filter(|author| **author != self.me).count()
    }

    /// Where a member says it is.
    pub(super) fn hints(&self, endpoint: &[u8; 32]) -> Vec<SocketAddr> {
        self.state().heard.get(endpoint).map_or_else(Vec::new, |heard| heard.notice.hints.clone())
    }

    /// Some of the members that say they hold a blob, by lot: those who say so most often are not to be the only ones that are asked.
    pub(super) fn holders(&self, hash: &BlobHash) -> Vec<[u8; 32]> {
        let state = self.state();
        let others = state.heard.values().map(|heard| &heard.notice).filter(|notice| notice.author != self.me);
        let mut found: Vec<_> =
            others.filter(|notice| notice.holds.contains(hash)).map(|notice| notice.author).collect();
        while found.len() > MAX_HOLDERS {
            found.swap_remove(draw(found.len()));
        }
        found
    }

    /// Says anew where this member is and what it holds, if that is due.
    fn renew(&self, book: &Book, hints: &[SocketAddr]) {
        let mut state = self.state();
        let is_member = |author: &[u8; 32]| *author == self.me || book.members.contains_key(author);
        state.heard.retain(|author, heard| is_member(author) && book.is_fresh(heard.notice.time));
        let mut is_new = true;
        if let Some(Heard { notice, since, .. }) = state.heard.get(&self.me) {
            is_new = notice.hints != hints || notice.holds != state.holds;
            if book.time < notice.time.saturating_add(book.refresh()) && !(is_new && since.elapsed() >= OWN_PAUSE) {
                return;
            }
        }
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let notice = Notice {
            author: self.me,
            time: book.time,
            clock: u64::try_from(clock).unwrap_or(u64::MAX),
            hints: hints.to_vec(),
            holds: state.holds.clone(),
        };
        let signed = notice.sign(&self.key, book);
        let now = Instant::now();
        let heard = Heard { notice, signed, since: now, rounds: book.rounds(), with_author: 0, is_new, even: now };
        state.heard.insert(self.me, heard);
        if is_new {
            state.eager = EAGER_ROUNDS;
        }
    }

    /// What is news here, but for what `partner` has said itself; and whose that is.
    fn news(&self, partner: &[u8; 32]) -> (Vec<[u8; 32]>, Vec<SignedNotice>) {
        let state = self.state();
        let is_news = |heard: &&Heard| heard.rounds > 0 && heard.notice.author != *partner;
        let mut news: Vec<_> = state.heard.values().filter(is_news).collect();
        news.sort_unstable_by_key(|heard| std::cmp::Reverse((heard.is_new, heard.since)));
        news.truncate(MAX_NOTICES);
        news.into_iter().map(|heard| (heard.notice.author, heard.signed.clone())).unzip()
    }

    /// A round is over in which a partner has been told what these say; what it says itself it knows. Only rounds of one's own count: else whoever
    /// asks often would have the rest hear nothing.
    fn told(&self, book: &Book, partner: &[u8; 32], authors: &[[u8; 32]]) {
        let mut state = self.state();
        for author in authors {
            if let Some(heard) = state.heard.get_mut(author) {
                heard.rounds = heard.rounds.saturating_sub(1);
            }
        }
        if let Some(heard) = state.heard.get_mut(partner) {
            heard.with_author += 1;
            let has_others = book.partners.iter().any(|other| other != partner && *other != self.me);
            if !has_others || heard.with_author % ROUNDS_WITH_AUTHOR == 0 {
                heard.rounds = heard.rounds.saturating_sub(1);
            }
        }
    }

    /// Takes what a partner tells. How much of it was news.
    fn take(&self, book: &Book, told: &[SignedNotice]) -> Result<usize, Forged> {
        let mut news = 0;
        for signed in told {
            let notice = signed.read()?;
            if !self.wants(book, &notice) {
                continue;
            }
            // Not under the lock: it takes a while.
            signed.verify(&notice, book)?;
            let mut state = self.state();
            if !state.wants(&notice) {
                // Another partner has told it meanwhile.
                continue;
            }
            if state.heard.len() >= MAX_HEARD && !state.heard.contains_key(&notice.author) {
                let others = state.heard.values().filter(|heard| heard.notice.author != self.me);
                let Some(oldest) = others.min_by_key(|heard| heard.since).map(|heard| heard.notice.author) else {
                    continue;
                };
                state.heard.remove(&oldest);
            }
            let since = Instant::now();
            let known = state.heard.get(&notice.author);
            // Of what is new still, that its author is still there takes nothing away.
            let is_new =
                known.is_none_or(|known| known.is_new && known.rounds > 0 || !notice.says_the_same(&known.notice));
            let even = known.map_or(since, |known| known.even.max(since)) + OWN_PAUSE;
            let rounds = if book.requesters.contains(&notice.author) { 0 } else { book.rounds() };
            let heard = Heard { signed: signed.clone(), since, rounds, with_author: 0, is_new, even, notice };
            state.heard.insert(heard.notice.author, heard);
            news += 1;
        }
        if news > 0 {
            self.changed.notify_one();
        }
        Ok(news)
    }

    fn wants(&self, book: &Book, notice: &Notice) -> bool {
        if notice.author == self.me || !book.members.contains_key(&notice.author) || !book.is_fresh(notice.time) {
            return false;
        }
        self.state().wants(notice)
    }

    /// Answers a partner that has told something: with what is news here, not too often.
    pub(super) fn answer(
        &self,
        partner: &[u8; 32],
        book: &Book,
        told: &[SignedNotice],
    ) -> Result<Vec<SignedNotice>, Forged> {
        let is_due = {
            let mut state = self.state();
            state.answered.retain(|_, at| at.elapsed() < PARTNER_PAUSE);
            let is_due = !state.answered.contains_key(partner);
            if is_due {
                state.answered.insert(*partner, Instant::now());
            }
            is_due
        };
        // Before it would hear its own.
        let news = if is_due { self.news(partner).1 } else { Vec::new() };
        self.take(book, told)?;
        Ok(news)
    }

    fn shun(&self, partner: &[u8; 32], time: Duration) {
        self.state().shunned.insert(*partner, Instant::now() + time);
    }

    /// A partner for the next round: mostly one that was heard of.
    fn partner(&self, book: &Book) -> Option<PeerContact> {
        let mut state = self.state();
        state.shunned.retain(|_, until| *until > Instant::now());
        let fits = |id: &&[u8; 32]| **id != self.me && !state.shunned.contains_key(*id);
        let all: Vec<_> = book.partners.iter().filter(fits).collect();
        let present: Vec<_> = all.iter().copied().filter(|id| state.heard.contains_key(*id)).collect();
        // Every fourth one is drawn from all, so that two crowds that have never heard of each other meet.
        let crowd = if present.is_empty() || draw(4) == 0 { &all } else { &present };
        let id = *crowd.get(draw(crowd.len()))?;
        book.members.get(id).cloned()
    }

    /// Least time from one round to the next, as things are.
    fn pause(&self, book: &Book, hints: &[SocketAddr]) -> Duration {
        if book.partners.iter().all(|partner| *partner == self.me) {
            return LONGEST_PAUSE;
        }
        let state = self.state();
        let own = state.heard.get(&self.me);
        if let Some(own) = own.filter(|own| own.notice.holds != state.holds || own.notice.hints != hints) {
            return EAGER_PAUSE.max(OWN_PAUSE.saturating_sub(own.since.elapsed()));
        }
        if own.is_none() || state.eager > 0 {
            return EAGER_PAUSE;
        }
        if !state.heard.values().any(|heard| heard.is_new && heard.rounds > 0) {
            return LONGEST_PAUSE;
        }
        let members = u32::try_from(book.members.len()).unwrap_or(u32::MAX);
        PAUSE_A_MEMBER.saturating_mul(members).clamp(EAGER_PAUSE, LONGEST_PAUSE)
    }

    /// A round begins.
    fn begin(&self) {
        let mut state = self.state();
        state.eager = state.eager.saturating_sub(1);
    }
}

impl State {
    /// Whether a notice is later than what is known of its author, and does not come too soon after it.
    fn wants(&self, notice: &Notice) -> bool {
        let latest = Instant::now() + OWN_PAUSE * (BURST - 1);
        let is_news = |known: &Heard| notice.is_later_than(&known.notice) && known.even <= latest;
        self.heard.get(&notice.author).is_none_or(is_news)
    }
}

/// A number below `bound`, by lot; 0 if there is none.
fn draw(bound: usize) -> usize {
    // Without chance it is always the first: slower, no worse.
    let lot = getrandom::u64().unwrap_or_default();
    usize::try_from(lot % bound.max(1) as u64).unwrap_or_default()
}
