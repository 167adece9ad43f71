//! The reference: what a deployment holds, in plain integers, and the rules of the Escrow and of the ProviderRegistry.
//!
//! Each call collects the rules that it breaks ([`Faults`]) instead of stopping at the first: the documents do not say in which
//! order a contract looks, so that it may name any of them.

use std::collections::BTreeSet;

use super::{
    ballots::Poll,
    calls::Permit,
    disputes::{Case, Dispute},
    jobs::Job,
};

/// Token wei.
pub(super) type Wei = u128;
/// An account's number.
pub(super) type Who = usize;

/// Accounts that are requesters, providers, payout addresses and challengers at once.
pub(super) const PLAYERS: usize = 5;
/// Somebody without any part in anything, who brings everything to its end.
pub(super) const KEEPER: Who = PLAYERS;
/// Rules on challenges.
pub(super) const ARBITER: Who = PLAYERS + 1;
/// The contract: bonds are its balance.
pub(super) const DISPUTES: Who = PLAYERS + 2;

/// Settings of the deployment: small and odd numbers, so that every division leaves something.
pub(super) const MIN_STAKE: Wei = 1_000;
pub(super) const EXIT_DELAY: u64 = 10_001;
pub(super) const MAX_COMMITMENT: u64 = 10_000;
pub(super) const SUCCESSOR_DELAY: u64 = 3;
pub(super) const EXPIRY_BOND_BPS: Wei = 777;
pub(super) const AUDIT_FLOOR_BPS: Wei = 3_333;
pub(super) const RULING: u64 = 901;
pub(super) const CHALLENGE_BOND: Wei = 151;
pub(super) const DEMANDING: u64 = 601;
pub(super) const DEMAND_BOND: Wei = 53;
pub(super) const FAULTY_BPS: u128 = 2_300;
pub(super) const FEE_BPS: Wei = 123;
pub(super) const CHECK_FEE: Wei = 3;
pub(super) const BPS: Wei = 10_000;
/// What each player begins with.
pub(super) const PURSE: Wei = 400_000;
/// Block time and number of the first call.
pub(super) const FIRST_SECOND: u64 = 1_800_000_000;
pub(super) const FIRST_BLOCK: u64 = 101;

/// The names of the rules that a call breaks, which are the contracts' errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults(pub(super) BTreeSet<&'static str>);

impl Faults {
    pub(super) fn unless(&mut self, holds: bool, fault: &'static str) {
        if !holds {
            self.0.insert(fault);
        }
    }
}

/// What is known of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    /// Tokens outside the Escrow, and how many of them the Escrow may pull.
    pub(super) wallet: Wei,
    pub(super) allowance: Wei,
    pub(super) permits_used: u64,
    pub(super) available: Wei,
    pub(super) locked: Wei,
    pub(super) accepted: u64,
    pub(super) timed_out: u64,
    pub(super) earned: Wei,
    pub(super) stake: Wei,
    pub(super) held: Wei,
    pub(super) exiting: bool,
    pub(super) staked_block: u64,
    pub(super) checks: u64,
    pub(super) expired: u64,
    pub(super) failed: u64,
    pub(super) withheld: u64,
    /// Challenges and demands that it lost.
    pub(super) lost: u64,
    /// Payout address and endpoint of a registered provider.
    pub(super) registered: Option<(Who, u64)>,
    /// 0 while no exit is under way.
    pub(super) exit_at: u64,
}

impl Book {
    /// What the Escrow owes the account, apart from bonds.
    pub(super) fn in_escrow(&self) -> Wei {
        self.available + self.locked + self.earned + self.stake
    }
}

/// What came of the last move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Waited,
    Done,
    Refused(Faults),
}

/// Everything.
#[derive(Clone)]
pub(super) struct State {
    pub(super) has_arbiter: bool,
    /// The run is about replicated jobs.
    pub(super) has_polls: bool,
    pub(super) now: u64,
    /// Number of the block in which the next call is.
    pub(super) block: u64,
    pub(super) books: Vec<Book>,
    pub(super) burnable: Wei,
    pub(super) burned: Wei,
    /// Sent to the Escrow without a call: nobody's.
    pub(super) stray: Wei,
    pub(super) jobs: Vec<Job>,
    pub(super) polls: Vec<Poll>,
    pub(super) cases: Vec<Case>,
    pub(super) disputes: Vec<Dispute>,
    pub(super) last: Outcome,
}

impl std::fmt::Debug for State {
    /// What a run begins with is all that tells it from others.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("has_arbiter", &self.has_arbiter)
            .field("has_polls", &self.has_polls)
            .finish_non_exhaustive()
    }
}

/// Takes `amount` away; a call that is refused anyway may ask for more than there is.
pub(super) fn less(from: &mut Wei, amount: Wei) {
    *from = from.saturating_sub(amount);
}

impl State {
    pub(super) fn new(has_arbiter: bool, has_polls: bool) -> Self {
        let mut books = vec![Book::default(); DISPUTES + 1];
        for book in &mut books[..PLAYERS] {
            (book.wallet, book.allowance) = (PURSE, PURSE);
        }
        Self {
            has_arbiter,
            has_polls,
            now: FIRST_SECOND,
            block: FIRST_BLOCK,
            books,
            burnable: 0,
            burned: 0,
            stray: 0,
            jobs: Vec::new(),
            polls: Vec::new(),
            cases: Vec::new(),
            disputes: Vec::new(),
            last: Outcome::Waited,
        }
    }

    // The token.

    fn use_permit(&mut self, owner: Who, permit: Permit) {
        if let Permit::Good(value) = permit {
            self.books[owner].allowance = value;
            self.books[owner].permits_used += 1;
        }
    }

    fn pull(&mut self, from: Who, amount: Wei, faults: &mut Faults) {
        let book = &mut self.books[from];
        faults.unless(book.allowance >= amount, "ERC20InsufficientAllowance");
        faults.unless(book.wallet >= amount, "ERC20InsufficientBalance");
        less(&mut book.allowance, amount);
        less(&mut book.wallet, amount);
    }

    pub(super) fn approve(&mut self, who: Who, amount: Wei) {
        self.books[who].allowance = amount;
    }

    pub(super) fn donate(&mut self, who: Who, amount: Wei, faults: &mut Faults) {
        faults.unless(self.books[who].wallet >= amount, "ERC20InsufficientBalance");
        less(&mut self.books[who].wallet, amount);
        self.stray += amount;
    }

    // The Escrow.

    pub(super) fn deposit(&mut self, who: Who, to: Who, amount: Wei, permit: Permit, faults: &mut Faults) {
        self.use_permit(who, permit);
        self.pull(who, amount, faults);
        self.books[to].available += amount;
    }

    pub(super) fn withdraw(&mut self, who: Who, amount: Wei, faults: &mut Faults) {
        let book = &mut self.books[who];
        faults.unless(book.available >= amount, "BalanceTooSmall");
        less(&mut book.available, amount);
        book.wallet += amount;
    }

    pub(super) fn burn(&mut self) {
        self.burned += self.burnable;
        self.burnable = 0;
    }

    /// Takes from the available balance, and what that lacks from the wallet: permits count only then.
    pub(super) fn take(&mut self, who: Who, amount: Wei, permit: Permit, faults: &mut Faults) {
        let missing = amount.saturating_sub(self.books[who].available);
        if missing > 0 {
            self.use_permit(who, permit);
            self.pull(who, missing, faults);
        }
        less(&mut self.books[who].available, amount);
    }

    pub(super) fn lock(&mut self, who: Who, amount: Wei, permit: Permit, faults: &mut Faults) {
        self.take(who, amount, permit, faults);
        self.books[who].locked += amount;
    }

    pub(super) fn refund(&mut self, who: Who, amount: Wei) {
        less(&mut self.books[who].locked, amount);
        self.books[who].available += amount;
    }

    pub(super) fn hold(&mut self, provider: Who, amount: Wei, faults: &mut Faults) {
        let book = &mut self.books[provider];
        faults.unless(!book.exiting, "Exiting");
        faults.unless(book.stake > 0, "NotRegistered");
        faults.unless(book.stake.saturating_sub(book.held) >= amount, "FreeStakeTooSmall");
        book.held += amount;
    }

    pub(super) fn free(&mut self, provider: Who, amount: Wei) {
        less(&mut self.books[provider].held, amount);
    }

    /// Of the held stake; what becomes of it is the caller's affair.
    pub(super) fn slash(&mut self, provider: Who, amount: Wei) {
        less(&mut self.books[provider].held, amount);
        less(&mut self.books[provider].stake, amount);
    }

    /// From the requester's deposit to the provider's earnings.
    pub(super) fn pay(&mut self, requester: Who, provider: Who, amount: Wei) {
        less(&mut self.books[requester].locked, amount);
        self.books[provider].earned += amount;
    }

    pub(super) fn burn_locked(&mut self, requester: Who, amount: Wei) {
        less(&mut self.books[requester].locked, amount);
        self.burnable += amount;
    }

    /// Out of the bonds.
    pub(super) fn give(&mut self, to: Who, amount: Wei) {
        less(&mut self.books[DISPUTES].available, amount);
        self.books[to].available += amount;
    }

    // The ProviderRegistry.

    fn registered(&self, who: Who, faults: &mut Faults) {
        faults.unless(self.books[who].registered.is_some(), "NotRegistered");
    }

    pub(super) fn register(
        &mut self,
        who: Who,
        payout: Option<Who>,
        endpoint: u64,
        stake: Wei,
        permit: Permit,
        faults: &mut Faults,
    ) {
        faults.unless(self.books[who].registered.is_none(), "AlreadyRegistered");
        faults.unless(payout.is_some(), "ZeroPayout");
        faults.unless(endpoint != 0, "ZeroEndpoint");
        faults.unless(stake >= MIN_STAKE, "StakeTooSmall");
        self.books[who].registered = payout.map(|payout| (payout, endpoint));
        self.stake(who, stake, permit, faults);
    }

    fn stake(&mut self, who: Who, amount: Wei, permit: Permit, faults: &mut Faults) {
        self.take(who, amount, permit, faults);
        self.books[who].stake += amount;
        self.books[who].staked_block = self.block;
    }

    pub(super) fn add_stake(&mut self, who: Who, amount: Wei, permit: Permit, faults: &mut Faults) {
        self.registered(who, faults);
        self.stake(who, amount, permit, faults);
    }

    pub(super) fn set_endpoint(&mut self, who: Who, endpoint: u64, faults: &mut Faults) {
        self.registered(who, faults);
        faults.unless(endpoint != 0, "ZeroEndpoint");
        if let Some(entry) = &mut self.books[who].registered {
            entry.1 = endpoint;
        }
    }

    pub(super) fn set_payout(&mut self, who: Who, provider: Who, payout: Option<Who>, faults: &mut Faults) {
        let entry = &mut self.books[provider].registered;
        faults.unless(entry.is_some_and(|(payout, _)| payout == who), "NotPayout");
        faults.unless(payout.is_some(), "ZeroPayout");
        if let (Some(entry), Some(payout)) = (entry, payout) {
            entry.0 = payout;
        }
    }

    pub(super) fn request_exit(&mut self, who: Who, faults: &mut Faults) {
        self.registered(who, faults);
        faults.unless(self.books[who].exit_at == 0, "Exiting");
        (self.books[who].exit_at, self.books[who].exiting) = (self.now + EXIT_DELAY, true);
    }

    pub(super) fn cancel_exit(&mut self, who: Who, faults: &mut Faults) {
        self.registered(who, faults);
        faults.unless(self.books[who].exit_at != 0, "NotExiting");
        (self.books[who].exit_at, self.books[who].exiting) = (0, false);
    }

    /// Stake and earnings go to the payout address, and the record as a provider is forgotten.
    pub(super) fn exit(&mut self, who: Who, faults: &mut Faults) {
        self.registered(who, faults);
        let book = &mut self.books[who];
        faults.unless(book.exit_at != 0, "NotExiting");
        faults.unless(self.now >= book.exit_at, "ExitTooEarly");
        faults.unless(book.held == 0, "StakeHeld");
        let amount = book.stake + book.earned;
        let payout = book.registered.map_or(who, |(payout, _)| payout);
        let kept = book.clone();
        *book = Book {
            wallet: kept.wallet,
            allowance: kept.allowance,
            permits_used: kept.permits_used,
            available: kept.available,
            locked: kept.locked,
            accepted: kept.accepted,
            timed_out: kept.timed_out,
            lost: kept.lost,
            ..Book::default()
        };
        self.books[payout].available += amount;
    }

    /// The one way to what a provider earned: to its payout address's wallet.
    pub(super) fn pay_out(&mut self, who: Who, provider: Who, faults: &mut Faults) {
        let Some((payout, _)) = self.books[provider].registered else {
            faults.unless(false, "NotRegistered");
            return;
        };
        faults.unless(who == provider || who == payout, "NotPayout");
        let amount = std::mem::take(&mut self.books[provider].earned);
        self.books[payout].wallet += amount;
    }
}
