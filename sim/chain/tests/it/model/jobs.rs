//! The reference of the JobRegistry: one execution a batch.

use super::{
    calls::{Given, Permit, Work},
    reference::{
        AUDIT_FLOOR_BPS, BPS, CHALLENGE_BOND, EXPIRY_BOND_BPS, Faults, MAX_COMMITMENT, SUCCESSOR_DELAY, State, Wei, Who,
    },
};

/// What a requester asks for. A job's id is the hash of its fields: equal fields are the same job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) requester: Who,
    pub(super) nonce: u64,
    pub(super) tasks: u32,
    pub(super) batch_size: u32,
    pub(super) fuel_limit: u64,
    pub(super) start_price: u128,
    pub(super) max_price: u128,
    pub(super) ramp_start: u64,
    pub(super) ramp: u64,
    pub(super) lease: u64,
    pub(super) window: u64,
}

impl Fields {
    pub(super) fn batches(&self) -> u32 {
        self.tasks.div_ceil(self.batch_size.max(1))
    }

    pub(super) fn tasks_in(&self, batch: u32) -> u32 {
        self.batch_size.min(self.tasks.saturating_sub(batch * self.batch_size))
    }

    pub(super) fn fuel_in(&self, batch: u32) -> u64 {
        u64::from(self.tasks_in(batch)) * self.fuel_limit
    }

    /// Worst case of a batch.
    pub(super) fn worst(&self, batch: u32) -> Wei {
        (Wei::from(self.fuel_in(batch)) * self.max_price).div_ceil(1_000_000_000)
    }

    /// How far the ramp has come.
    pub(super) fn step(&self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.ramp_start);
        if elapsed >= self.ramp { 65_535 } else { elapsed * 65_535 / self.ramp }
    }

    pub(super) fn price_of(&self, step: u64) -> u128 {
        self.start_price + (self.max_price - self.start_price) * u128::from(step) / 65_535
    }

    pub(super) fn fit(&self) -> bool {
        self.tasks > 0
            && self.batch_size > 0
            && self.batch_size <= self.tasks
            && self.fuel_limit > 0
            && self.start_price > 0
            && self.start_price <= self.max_price
            && (self.ramp > 0 || self.start_price == self.max_price)
            && self.lease > 0
            && self.window > 0
            && self.lease + self.window <= MAX_COMMITMENT
    }
}

/// Stake that a lease holds.
pub(super) fn stake_for(worst: Wei) -> Wei {
    (worst * (BPS - AUDIT_FLOOR_BPS)).div_ceil(AUDIT_FLOOR_BPS)
}

pub(super) fn payment(fuel: u64, price: u128) -> Wei {
    Wei::from(fuel) * price / 1_000_000_000
}

/// A result that stands, or stood until it was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Submission {
    pub(super) by: Who,
    pub(super) price: u128,
    pub(super) work: Work,
    pub(super) final_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    Open {
        /// Whose lease ran out last.
        last: Option<Who>,
        /// Fixed once a lease ran out.
        price: Option<u128>,
        expiries: u32,
        /// When a lease of it was given back, if that is how the last one ended.
        released: Option<u64>,
    },
    Leased {
        holder: Who,
        deadline: u64,
        price: u128,
        expiries: u32,
        /// Who may submit instead, before that block.
        former: Option<(Who, u64)>,
    },
    Submitted(Submission),
    Frozen(Submission),
    Settled(Submission),
    Cancelled,
}

impl Batch {
    pub(super) const FRESH: Self = Self::Open { last: None, price: None, expiries: 0, released: None };

    pub(super) fn submission(&self) -> Option<Submission> {
        match *self {
            Self::Submitted(given) | Self::Frozen(given) | Self::Settled(given) => Some(given),
            _ => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Settled(_) | Self::Cancelled)
    }
}

/// Where a job's deposit went.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) deposit: Wei,
    pub(super) paid: Wei,
    pub(super) refunded: Wei,
    pub(super) burned: Wei,
    /// How often each batch was settled.
    pub(super) settled: Vec<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) fields: Fields,
    pub(super) cancelled: bool,
    pub(super) batches: Vec<Batch>,
    pub(super) ledger: Ledger,
}

impl Job {
    pub(super) fn open(&self) -> usize {
        self.batches.iter().filter(|batch| batch.is_open()).count()
    }

    fn worst_of_open(&self) -> Wei {
        self.numbered().filter(|(_, batch)| batch.is_open()).map(|(number, _)| self.fields.worst(number)).sum()
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, &Batch)> {
        (0..).zip(&self.batches)
    }
}

impl State {
    pub(super) fn post(&mut self, who: Who, fields: &Fields, permit: Permit, faults: &mut Faults) {
        faults.unless(who == fields.requester, "NotRequester");
        faults.unless(fields.fit(), "InvalidJob");
        faults.unless(self.jobs.iter().all(|job| job.fields != *fields), "JobExists");
        if fields.fit() {
            let batches = vec![Batch::FRESH; fields.batches() as usize];
            self.open_job(fields, batches, permit, faults);
        }
    }

    fn open_job(&mut self, fields: &Fields, batches: Vec<Batch>, permit: Permit, faults: &mut Faults) {
        let ledger = Ledger { settled: vec![0; batches.len()], ..Ledger::default() };
        let mut job = Job { fields: fields.clone(), cancelled: false, batches, ledger };
        job.ledger.deposit = job.worst_of_open();
        self.lock(fields.requester, job.ledger.deposit, permit, faults);
        self.jobs.push(job);
    }

    pub(super) fn as_requester(&self, who: Who, job: usize, faults: &mut Faults) {
        faults.unless(who == self.jobs[job].fields.requester, "NotRequester");
    }

    /// Ends the open batches.
    pub(super) fn cancel(&mut self, who: Who, number: usize, faults: &mut Faults) {
        self.as_requester(who, number, faults);
        let job = &mut self.jobs[number];
        faults.unless(!job.cancelled, "JobIsCancelled");
        let refund = job.worst_of_open();
        job.cancelled = true;
        job.batches.iter_mut().filter(|batch| batch.is_open()).for_each(|batch| *batch = Batch::Cancelled);
        job.ledger.refunded += refund;
        let requester = job.fields.requester;
        self.refund(requester, refund);
    }

    /// The open batches become those of a new job, as if they were posted there; the others have no part in it.
    pub(super) fn amend(&mut self, who: Who, number: usize, terms: &Fields, permit: Permit, faults: &mut Faults) {
        let fields = &self.jobs[number].fields;
        let work = |fields: &Fields| (fields.requester, fields.tasks, fields.batch_size, fields.fuel_limit);
        let same = work(fields) == work(terms);
        faults.unless(same, "OtherWork");
        faults.unless(terms.fit(), "InvalidJob");
        faults.unless(self.jobs[number].open() > 0, "NothingGiven");
        faults.unless(self.jobs.iter().all(|job| job.fields != *terms), "JobExists");
        let open = |batch: &Batch| if batch.is_open() { Batch::FRESH } else { Batch::Cancelled };
        let batches = self.jobs[number].batches.iter().map(open).collect();
        self.cancel(who, number, faults);
        if same && terms.fit() {
            self.open_job(terms, batches, permit, faults);
        }
    }

    /// A batch that is there, or else a fault.
    fn batch(&self, job: usize, batch: u32, faults: &mut Faults) -> Option<Batch> {
        let found = self.jobs[job].batches.get(batch as usize).copied();
        faults.unless(found.is_some(), "NoSuchBatch");
        found
    }

    fn put(&mut self, job: usize, number: u32, batch: Batch) {
        self.jobs[job].batches[number as usize] = batch;
    }

    pub(super) fn lease(&mut self, who: Who, job: usize, batches: &[u32], faults: &mut Faults) {
        let fields = self.jobs[job].fields.clone();
        faults.unless(!self.jobs[job].cancelled, "JobIsCancelled");
        faults.unless(!batches.is_empty(), "NothingGiven");
        for &number in batches {
            let Some(mut batch) = self.batch(job, number, faults) else { continue };
            if matches!(batch, Batch::Leased { deadline, .. } if self.now > deadline) {
                self.run_out(job, number);
                batch = self.jobs[job].batches[number as usize];
            }
            let Batch::Open { last, price, expiries, released } = batch else {
                faults.unless(false, "WrongState");
                continue;
            };
            faults.unless(released != Some(self.now), "JustReleased");
            let leased = Batch::Leased {
                holder: who,
                deadline: self.now + fields.lease,
                price: price.unwrap_or_else(|| fields.price_of(fields.step(self.now))),
                expiries,
                former: last.filter(|last| *last != who).map(|last| (last, self.block + SUCCESSOR_DELAY)),
            };
            self.put(job, number, leased);
            self.hold(who, stake_for(fields.worst(number)), faults);
        }
    }

    /// A batch that nobody holds any longer is open, or final if its job is cancelled.
    fn reopen(&mut self, job: usize, number: u32, open: Batch) {
        if !self.jobs[job].cancelled {
            return self.put(job, number, open);
        }
        let worst = self.jobs[job].fields.worst(number);
        self.put(job, number, Batch::Cancelled);
        self.jobs[job].ledger.refunded += worst;
        self.refund(self.jobs[job].fields.requester, worst);
    }

    /// Ends a lease whose time is over.
    fn run_out(&mut self, job: usize, number: u32) {
        let Batch::Leased { holder, price, expiries, former, .. } = self.jobs[job].batches[number as usize] else {
            return;
        };
        let worst = self.jobs[job].fields.worst(number);
        let bond = ((worst * EXPIRY_BOND_BPS / BPS) << expiries.min(64)).min(stake_for(worst));
        // A successor whose turn never came leaves it to whom it succeeded.
        let last = former.filter(|(_, active)| self.block < *active).map_or(holder, |(former, _)| former);
        self.free(holder, stake_for(worst) - bond);
        self.slash(holder, bond);
        self.burnable += bond;
        self.books[holder].expired += 1;
        let expiries = expiries + 1;
        self.reopen(job, number, Batch::Open { last: Some(last), price: Some(price), expiries, released: None });
    }

    pub(super) fn expire(&mut self, job: usize, batches: &[u32], faults: &mut Faults) {
        faults.unless(!batches.is_empty(), "NothingGiven");
        for &number in batches {
            match self.batch(job, number, faults) {
                Some(Batch::Leased { deadline, .. }) => {
                    faults.unless(self.now > deadline, "LeaseRunning");
                    self.run_out(job, number);
                }
                found => faults.unless(found.is_none(), "WrongState"),
            }
        }
    }

    pub(super) fn release(&mut self, who: Who, job: usize, batches: &[u32], faults: &mut Faults) {
        let fields = self.jobs[job].fields.clone();
        faults.unless(!batches.is_empty(), "NothingGiven");
        for &number in batches {
            match self.batch(job, number, faults) {
                Some(Batch::Leased { holder, deadline, price, expiries, former }) => {
                    faults.unless(who == holder, "NotHolder");
                    let first_quarter = deadline - fields.lease + fields.lease / 4;
                    faults.unless(self.now <= first_quarter, "TooLateToRelease");
                    self.free(holder, stake_for(fields.worst(number)));
                    // Who gives a batch back has no turn any more; who was there before has it again.
                    let last = former.map(|(former, _)| former);
                    let price = (expiries > 0).then_some(price);
                    let released = Some(self.now);
                    self.reopen(job, number, Batch::Open { last, price, expiries, released });
                }
                found => faults.unless(found.is_none(), "WrongState"),
            }
        }
    }

    pub(super) fn submit(&mut self, who: Who, job: usize, results: &[(u32, Work)], faults: &mut Faults) {
        let fields = self.jobs[job].fields.clone();
        faults.unless(!results.is_empty(), "NothingGiven");
        for &(number, work) in results {
            let Some(batch) = self.batch(job, number, faults) else { continue };
            faults.unless(work.fuel(&fields, number) <= fields.fuel_in(number), "FuelAboveLimit");
            faults.unless(work.has_root(), "EmptyRoot");
            let stake = stake_for(fields.worst(number));
            let price = match batch {
                Batch::Leased { holder, price, former, .. } => {
                    let in_turn = former.filter(|(_, active)| self.block < *active);
                    match in_turn {
                        Some((former, _)) if former == who => {
                            self.free(holder, stake);
                            self.hold(who, stake, faults);
                        }
                        Some(_) if holder == who => faults.unless(false, "NotYetActive"),
                        _ => faults.unless(holder == who, "NotHolder"),
                    }
                    price
                }
                Batch::Open { last, price, .. } => {
                    faults.unless(last == Some(who), "NotHolder");
                    self.hold(who, stake, faults);
                    price.unwrap_or(0)
                }
                _ => {
                    faults.unless(false, "WrongState");
                    // Of a batch that an amended job never had, the registry says that nobody holds it.
                    faults.unless(batch != Batch::Cancelled, "NotHolder");
                    continue;
                }
            };
            let given = Submission { by: who, price, work, final_at: self.now + fields.window };
            self.put(job, number, Batch::Submitted(given));
        }
    }

    /// The result that the caller means, if it is in the state that the call needs.
    pub(super) fn standing(&self, job: usize, given: Given, frozen: bool, faults: &mut Faults) -> Option<Submission> {
        let found = match self.batch(job, given.batch, faults)? {
            Batch::Submitted(found) if !frozen => found,
            Batch::Frozen(found) if frozen => found,
            _ => {
                faults.unless(false, "WrongState");
                return None;
            }
        };
        faults.unless(!given.wrong, "WrongSubmission");
        Some(found)
    }

    pub(super) fn accept(&mut self, who: Who, job: usize, given: &[Given], faults: &mut Faults) {
        self.as_requester(who, job, faults);
        self.settle(job, given, true, faults);
    }

    pub(super) fn settle(&mut self, job: usize, given: &[Given], accepted: bool, faults: &mut Faults) {
        let fields = self.jobs[job].fields.clone();
        faults.unless(!given.is_empty(), "NothingGiven");
        for &given in given {
            let Some(found) = self.standing(job, given, false, faults) else { continue };
            faults.unless(accepted || self.now >= found.final_at, "WindowOpen");
            let worst = fields.worst(given.batch);
            let paid = payment(found.work.fuel(&fields, given.batch), found.price);
            self.pay(fields.requester, found.by, paid);
            self.refund(fields.requester, worst.saturating_sub(paid));
            self.free(found.by, stake_for(worst));
            let book = &mut self.books[fields.requester];
            *(if accepted { &mut book.accepted } else { &mut book.timed_out }) += 1;
            self.put(job, given.batch, Batch::Settled(found));
            let ledger = &mut self.jobs[job].ledger;
            ledger.paid += paid;
            ledger.refunded += worst.saturating_sub(paid);
            ledger.settled[given.batch as usize] += 1;
        }
    }

    /// Nobody gains: payment and a bond of the requester are burned, and a first expiry's bond of the provider.
    pub(super) fn reject(&mut self, who: Who, job: usize, given: Given, permit: Permit, faults: &mut Faults) {
        let fields = self.jobs[job].fields.clone();
        self.as_requester(who, job, faults);
        faults.unless(!self.has_arbiter, "HasArbiter");
        let Some(found) = self.standing(job, given, false, faults) else { return };
        faults.unless(self.now < found.final_at, "WindowOver");
        let worst = fields.worst(given.batch);
        let unpaid = payment(found.work.fuel(&fields, given.batch), found.price);
        let bond = (worst * EXPIRY_BOND_BPS / BPS).min(stake_for(worst));
        self.slash(found.by, bond);
        self.free(found.by, stake_for(worst) - bond);
        self.burn_locked(fields.requester, unpaid);
        self.refund(fields.requester, worst.saturating_sub(unpaid));
        self.take(who, CHALLENGE_BOND, permit, faults);
        self.burnable += bond + CHALLENGE_BOND;
        self.put(job, given.batch, Batch::Settled(found));
        let ledger = &mut self.jobs[job].ledger;
        ledger.burned += unpaid;
        ledger.refunded += worst.saturating_sub(unpaid);
        ledger.settled[given.batch as usize] += 1;
    }

    /// A result that fell: the batch is as if it had never been leased.
    pub(super) fn fall(&mut self, job: usize, number: u32) {
        self.reopen(job, number, Batch::FRESH);
    }
}
