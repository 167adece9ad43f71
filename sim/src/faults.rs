//! Blocks, and all that goes wrong with chain, network and machines.

use conun_agent::core::Core;

use crate::{
    agent::{Part, Who, millis},
    error::Violation,
    node::{DEEPEST, EPOCH},
    scenario::Spells,
    world::{Doing, Happening, World},
};

/// A fault that begins or ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Crash(Who),
    Restart(Who),
    /// Its disk takes nothing, or does again.
    FullDisk(Who, bool),
    Sleep(Who),
    /// Nobody reaches it, or they do again.
    CutOff(Who, bool),
    Spike(bool),
    Censor(bool),
}

impl World {
    /// Plans the first fault of each kind.
    pub(crate) fn plan_faults(&mut self) {
        let chain = self.scenario.chain.clone();
        if let Some(reorgs) = &chain.reorgs {
            self.reorg_in = (reorgs.every_blocks.draw(&mut self.chance.chain) as u64).max(1);
        }
        if let Some(spikes) = &chain.fee_spikes {
            let after = millis(&spikes.every_seconds, &mut self.chance.chain);
            self.queue.plan(after, Happening::Fault(Fault::Spike(true)));
        }
        if let Some(censorship) = &chain.censorship {
            let after = millis(&censorship.every_seconds, &mut self.chance.chain);
            self.queue.plan(after, Happening::Fault(Fault::Censor(true)));
        }
        for who in 0..self.agents.len() {
            if !matches!(self.agents[who].part, Part::Arbiter(_))
                && let Some(partitions) = self.scenario.network.partitions.clone()
            {
                self.plan_spell(&partitions, Fault::CutOff(who, true), true);
            }
            self.plan_machine(who);
            self.plan_theft(who);
        }
    }

    fn plan_machine(&mut self, who: Who) {
        if !matches!(self.agents[who].part, Part::Provider(_)) {
            return;
        }
        let group = self.agents[who].group - self.scenario.requesters.len();
        let machine = self.scenario.providers[group].machine.clone();
        let spells = [
            (machine.crashes, Fault::Crash(who)),
            (machine.full_disk, Fault::FullDisk(who, true)),
            (machine.sleeps, Fault::Sleep(who)),
        ];
        for (spells, fault) in spells {
            if let Some(spells) = spells {
                self.plan_spell(&spells, fault, true);
            }
        }
    }

    /// Plans the next spell; the first only for the share that is hit at all.
    fn plan_spell(&mut self, spells: &Spells, fault: Fault, first: bool) {
        if first && !self.chance.faults.chance(spells.share) {
            return;
        }
        let after = millis(&spells.every_seconds, &mut self.chance.faults);
        self.queue.plan(self.now + after, Happening::Fault(fault));
    }

    /// A fault begins or ends. None begins once the market is to end.
    pub(crate) fn fault(&mut self, fault: Fault) {
        use Fault as F;
        let begins = matches!(
            fault,
            F::Crash(_) | F::FullDisk(_, true) | F::Sleep(_) | F::CutOff(_, true) | F::Spike(true) | F::Censor(true)
        );
        if begins && self.is_ending {
            return;
        }
        let kind = match fault {
            F::FullDisk(_, true) => Some("full disk"),
            F::Sleep(_) => Some("sleep"),
            F::CutOff(_, true) => Some("partition"),
            F::Spike(true) => Some("fee spike"),
            F::Censor(true) => Some("censorship"),
            _ => None,
        };
        if let Some(kind) = kind {
            self.books.fault(kind, 1);
        }
        match fault {
            F::Crash(_) | F::Restart(_) | F::FullDisk(..) | F::Sleep(_) => self.machine_fault(fault),
            F::CutOff(who, cut_off) => {
                self.agents[who].cut_off = cut_off;
                self.note(who, if cut_off { "is cut off" } else { "is reached again" });
                if let Some(spells) = self.scenario.network.partitions.clone() {
                    self.end_or_next(&spells, F::CutOff(who, true), F::CutOff(who, false), cut_off);
                }
            }
            F::Spike(on) => {
                let Some(spikes) = self.scenario.chain.fee_spikes.clone() else { return };
                self.fee_factor = if on { spikes.factor } else { 1.0 };
                self.trace.note(self.now, "chain", format_args!("gas costs {} times the usual", self.fee_factor));
                let pause = if on { &spikes.seconds } else { &spikes.every_seconds };
                let after = millis(pause, &mut self.chance.chain);
                self.queue.plan(self.now + after, Happening::Fault(F::Spike(!on)));
            }
            F::Censor(on) => {
                let Some(censorship) = self.scenario.chain.censorship.clone() else { return };
                let accounts: Vec<_> = self.agents.iter().map(|agent| agent.address).collect();
                self.censored = if on {
                    accounts.into_iter().filter(|_| self.chance.chain.chance(censorship.share)).collect()
                } else {
                    Vec::new()
                };
                self.trace.note(self.now, "chain", format_args!("leaves {} accounts out", self.censored.len()));
                let pause = if on { &censorship.seconds } else { &censorship.every_seconds };
                let after = millis(pause, &mut self.chance.chain);
                self.queue.plan(self.now + after, Happening::Fault(F::Censor(!on)));
            }
        }
    }

    /// Plans the end of a spell that began, or the next one.
    fn end_or_next(&mut self, spells: &Spells, begin: Fault, end: Fault, began: bool) {
        if began {
            let lasts = millis(&spells.seconds, &mut self.chance.faults);
            self.queue.plan(self.now + lasts, Happening::Fault(end));
        } else {
            self.plan_spell(spells, begin, false);
        }
    }

    fn machine_fault(&mut self, fault: Fault) {
        let (Fault::Crash(who) | Fault::Restart(who) | Fault::FullDisk(who, _) | Fault::Sleep(who)) = fault else {
            return;
        };
        let group = self.agents[who].group - self.scenario.requesters.len();
        let machine = self.scenario.providers[group].machine.clone();
        match fault {
            Fault::Crash(_) if self.agents[who].up => {
                let lost = self.chance.faults.chance(machine.unsynced);
                self.crash(who, lost);
                if let Some(spells) = &machine.crashes {
                    self.end_or_next(spells, fault, Fault::Restart(who), true);
                }
            }
            // Not there yet.
            Fault::Crash(_) => {
                if let Some(spells) = &machine.crashes {
                    self.end_or_next(spells, fault, fault, false);
                }
            }
            Fault::Restart(_) => {
                self.agents[who].up = true;
                self.note(who, "runs again");
                self.start_polling(who);
                if let Some(spells) = &machine.crashes {
                    self.end_or_next(spells, Fault::Crash(who), fault, false);
                }
            }
            Fault::FullDisk(_, full) => {
                if let Some(provider) = self.agents[who].provider() {
                    provider.disk.full = full;
                }
                self.note(who, if full { "has a full disk" } else { "has room on its disk again" });
                if let Some(spells) = &machine.full_disk {
                    self.end_or_next(spells, Fault::FullDisk(who, true), Fault::FullDisk(who, false), full);
                }
            }
            Fault::Sleep(_) => {
                let Some(spells) = &machine.sleeps else { return };
                let lasts = millis(&spells.seconds, &mut self.chance.faults);
                self.agents[who].asleep_until = self.now + lasts;
                self.note(who, format_args!("sleeps for {} s", lasts / 1_000));
                let next = lasts + millis(&spells.every_seconds, &mut self.chance.faults);
                self.queue.plan(self.now + next, Happening::Fault(fault));
            }
            _ => {}
        }
    }

    /// Everything that was not on disk is gone; `lost`: the last write, too, if nothing that was sent depends on it.
    fn crash(&mut self, who: Who, lost: bool) {
        let agent = &mut self.agents[who];
        agent.life += 1;
        (agent.up, agent.view) = (false, None);
        agent.wallet.crash();
        let (address, mut gone) = (agent.address, None);
        if let Part::Provider(provider) = &mut agent.part {
            provider.core = Core::new(address, provider.policy.clone());
            provider.executing.clear();
            provider.copying.clear();
            provider.prepared.clear();
            provider.remembers = false;
            if lost && let Some(batch) = provider.disk.fresh.take() {
                provider.disk.results.remove(&batch);
                gone = Some(batch);
            }
        }
        self.books.fault("crash", 1);
        match gone {
            Some((job, batch)) => {
                self.books.fault("lost write", 1);
                self.note(who, format_args!("crashes, and loses batch {batch} of {job}"));
            }
            None => self.note(who, "crashes"),
        }
    }

    /// A block is due.
    pub(crate) fn block(&mut self) -> Result<(), Violation> {
        let pause = millis(&self.scenario.chain.block_seconds.clone(), &mut self.chance.chain);
        self.queue.plan(self.now + pause, Happening::Block);
        let base_fee = (self.scenario.chain.base_fee_gwei * 1e9 * self.fee_factor) as u64;
        self.check_waiting()?;
        let censored = std::mem::take(&mut self.censored);
        let mined = self.node.chain.mine_at(self.unix(), Some(base_fee), |sender, _| censored.contains(&sender));
        self.censored = censored;
        self.mined(&mined)?;
        if self.reorg_in > 0 && !self.is_ending {
            self.reorg_in -= 1;
            if self.reorg_in == 0 {
                self.reorg()?;
            }
        }
        Ok(())
    }

    fn mined(&mut self, mined: &conun_chain::Mined) -> Result<(), Violation> {
        let text = format!("block {} {} with {} transactions", mined.number, mined.hash, mined.receipts.len());
        self.trace.note(self.now, "chain", text);
        self.books.mined(mined);
        self.tell_receipts(mined.receipts.iter().map(|receipt| (receipt.from, receipt.transaction_hash)));
        self.check_block(mined)?;
        self.check_refused(mined)
    }

    /// The latest blocks are taken back; what was in them comes again in another order, or not at all.
    fn reorg(&mut self) -> Result<(), Violation> {
        let Some(reorgs) = self.scenario.chain.reorgs.clone() else { return Ok(()) };
        self.reorg_in = (reorgs.every_blocks.draw(&mut self.chance.chain) as u64).max(1);
        let most = self.node.chain.height().saturating_sub(self.invariants.first_block());
        let depth = (reorgs.depth.draw(&mut self.chance.chain) as u64).clamp(1, DEEPEST).min(most);
        if depth == 0 {
            return Ok(());
        }
        let (dropped, times) = self.node.chain.rewind(depth).expect("as many blocks are there, and their states");
        self.node.branch += 1;
        self.invariants.rewind(self.node.chain.height());
        let mut lost = 0;
        for tx in dropped {
            if self.chance.chain.chance(reorgs.lost) {
                lost += 1;
            } else {
                // One whose nonce was used meanwhile, or that pays too little to replace another, stays out.
                let _ = self.node.chain.queue_again(tx);
            }
        }
        self.trace.note(self.now, "chain", format_args!("re-org of {depth} blocks, {lost} transactions lost"));
        self.books.reorgs += 1;
        self.books.fault("re-org", 1);
        self.books.fault("lost transaction", lost);
        let base_fee = (self.scenario.chain.base_fee_gwei * 1e9 * self.fee_factor) as u64;
        // The new branch is the longer one.
        for time in times.into_iter().chain([self.unix()]) {
            let mut order =
                crate::random::Random::new(self.seed, "order", self.node.chain.height() ^ self.node.branch << 32);
            let late: Vec<_> =
                self.node.chain.pool().into_iter().map(|(_, tx)| *tx.tx_hash()).filter(|_| order.chance(0.5)).collect();
            let mined = self.node.chain.mine_at(time.max(EPOCH), Some(base_fee), |_, tx| late.contains(tx.tx_hash()));
            self.mined(&mined)?;
        }
        self.check_index()
    }

    /// Whoever was lied to asks an honest endpoint from now on; for that an agent is started again.
    pub(crate) fn end_lies(&mut self) {
        let honest = self.agents_feed;
        for who in 0..self.agents.len() {
            if self.agents[who].feed != honest {
                let was_up = self.agents[who].up;
                self.crash(who, false);
                self.agents[who].feed = honest;
                if was_up {
                    self.queue.plan(self.now + 1_000, Happening::Fault(Fault::Restart(who)));
                }
            }
        }
    }

    /// What an agent that starts again knows from its journal.
    pub(crate) fn remember(&mut self, who: Who) -> Result<(), Violation> {
        let agent = &mut self.agents[who];
        let (Some(view), Part::Provider(provider)) = (agent.view.clone(), &mut agent.part) else { return Ok(()) };
        provider.remembers = true;
        let open = |id: &alloy::primitives::B256| view.index.job(id).is_some_and(|entry| !entry.is_over());
        let results: Vec<_> = provider
            .disk
            .results
            .iter()
            .filter(|(id, _)| open(&id.0))
            .map(|(id, (record, _))| (*id, *record))
            .collect();
        for (batch, record) in results {
            self.step(who, conun_agent::core::Event::Remembered(batch, record))?;
        }
        Ok(())
    }

    /// A [`Doing::Prepared`] that a partition cut off.
    pub(crate) fn cut(&self, who: Who, doing: Doing) -> Doing {
        match doing {
            Doing::Prepared(job, Ok(())) if self.agents[who].cut_off => {
                Doing::Prepared(job, Err("it cannot be reached".to_owned()))
            }
            doing => doing,
        }
    }
}
