//! Transactions as the agent's sender sends them: estimated first, one at a time, paid more for when they hang, carried on after a
//! restart or a re-org. A model of it: the real one waits on a wall clock.

use alloy::{
    primitives::{B256, keccak256},
    rpc::types::TransactionRequest,
};
use conun_agent::{chain::SendError, core::Event};
use conun_bindings::revert::{self, Revert};

use crate::{
    agent::{Live, Purpose, Who},
    error::Violation,
    node::TIP,
    world::{Doing, World},
};

/// Milliseconds from an agent to its endpoint and back.
const ENDPOINT_MS: u64 = 150;

/// Milliseconds from a block until who waits for a transaction in it knows.
const RECEIPT_MS: u64 = 1_200;

/// A transaction that is not mined after so many milliseconds is sent again for more; the agent's own figures follow.
const STALL_MS: u64 = 60_000;
const BUMP_PERCENT: u128 = 25;
const MAX_BUMPS: u32 = 6;
const GAS_MARGIN_PERCENT: u64 = 25;
const REMEMBERED: usize = 64;

impl World {
    /// Sends a transaction once what was sent before is out of the way.
    pub(crate) fn send(&mut self, who: Who, kind: &'static str, request: TransactionRequest, purpose: Purpose) {
        self.agents[who].wallet.next = Some((kind, request, purpose));
        self.plan_for(who, ENDPOINT_MS, Doing::Send);
    }

    /// What is next goes out, or what hinders it.
    pub(crate) fn send_next(&mut self, who: Who) -> Result<(), Violation> {
        let agent = &self.agents[who];
        if agent.wallet.live.is_some() || agent.wallet.next.is_none() {
            return Ok(());
        }
        if agent.cut_off {
            return self.refused(who, None, "the RPC endpoint failed");
        }
        let account = agent.address;
        self.node.chain.set_clock(self.unix());
        let used = self.node.chain.nonce(account);
        while let Some(kept) = self.agents[who].wallet.outbox.iter().find(|kept| kept.nonce >= used).cloned() {
            if self.resume(who, kept, used)? {
                return Ok(());
            }
        }
        let Some((kind, request, purpose)) = self.agents[who].wallet.next.take() else { return Ok(()) };
        self.check_calls(who)?;
        let request = request.from(account);
        let gas = match self.node.chain.try_call(request.clone()) {
            Ok((_, gas)) => gas + gas * GAS_MARGIN_PERCENT / 100 + 10_000,
            Err(error) => {
                self.agents[who].wallet.next = Some((kind, request, purpose));
                return self.refused(who, Some(refusal(kind, &error)), "");
            }
        };
        let price = u128::from(self.node.chain.next_base_fee()) + TIP;
        let (mut fee, mut tip) = (2 * price, TIP);
        let most = self.agents[who].provider().and_then(|provider| provider.max_fee);
        if let Some(most) = most {
            if price > most {
                self.agents[who].wallet.next = Some((kind, request, purpose));
                let text = format!("gas costs {price} wei, and {most} is the most that may be paid");
                return self.refused(who, None, &text);
            }
            (fee, tip) = (fee.min(most), tip.min(most));
        }
        // What was only decided may be lost in a crash, and decided anew with another salt.
        if let Purpose::Action(action) = &purpose {
            self.check_promises(who, action)?;
        }
        let nonce = self.node.chain.next_nonce(account);
        let live = Live { kind, purpose, nonce, request, gas, fee, tip, hashes: Vec::new(), attempts: 0 };
        self.agents[who].wallet.live = Some(live);
        self.attempt(who)
    }

    /// Carries on what was sent earlier and is not mined. Whether it is under way now.
    fn resume(&mut self, who: Who, kept: Live, used: u64) -> Result<bool, Violation> {
        let waits = self.node.chain.next_nonce(self.agents[who].address) > kept.nonce;
        let refused = self.node.chain.try_call(kept.request.clone()).is_err();
        if !waits && (kept.nonce != used || refused) {
            self.note(who, format_args!("forgets nonce {}: {}", kept.nonce, kept.kind));
            self.agents[who].wallet.outbox.retain(|other| other.nonce != kept.nonce);
            return Ok(false);
        }
        self.note(who, format_args!("carries on nonce {}: {}", kept.nonce, kept.kind));
        self.agents[who].wallet.live = Some(Live { purpose: Purpose::Resumed, attempts: 0, ..kept });
        self.attempt(who)?;
        Ok(true)
    }

    /// Sends what is live, and plans to look after it.
    fn attempt(&mut self, who: Who) -> Result<(), Violation> {
        let agent = &mut self.agents[who];
        let (account, Some(mut live)) = (agent.address, agent.wallet.live.take()) else { return Ok(()) };
        // Noted before it is sent.
        let outbox = &mut agent.wallet.outbox;
        outbox.retain(|other| other.nonce != live.nonce);
        let at = outbox.partition_point(|other| other.nonce < live.nonce);
        outbox.insert(at, live.clone());
        if outbox.len() > REMEMBERED {
            outbox.pop_front();
        }
        if let Some(provider) = agent.provider() {
            provider.disk.fresh = None;
        }
        let input = keccak256(live.request.input.input().cloned().unwrap_or_default());
        self.check_nonce(who, live.nonce, input)?;
        let sent = self.node.queue(account, live.nonce, &live.request, live.gas, (live.fee, live.tip));
        match sent {
            Ok(hash) => {
                self.note(
                    who,
                    format_args!("sends {} as nonce {} for {} gwei", live.kind, live.nonce, live.fee / 1_000_000_000),
                );
                live.hashes.push(hash);
            }
            Err(error) => self.note(who, format_args!("{} as nonce {}: {error}", live.kind, live.nonce)),
        }
        let kept = self.agents[who].wallet.outbox.iter_mut().find(|kept| kept.nonce == live.nonce);
        if let Some(kept) = kept {
            kept.hashes.clone_from(&live.hashes);
        }
        let (nonce, attempts) = (live.nonce, live.attempts);
        self.agents[who].wallet.live = Some(live);
        self.plan_for(who, STALL_MS, Doing::Stall(nonce, attempts));
        Ok(())
    }

    /// It is time to pay more, if it is still not mined.
    pub(crate) fn stall(&mut self, who: Who, nonce: u64, attempts: u32) -> Result<(), Violation> {
        let most = self.agents[who].provider().and_then(|provider| provider.max_fee);
        let Some(live) = &mut self.agents[who].wallet.live else { return Ok(()) };
        if (live.nonce, live.attempts) != (nonce, attempts) {
            return Ok(());
        }
        let more = |fee: u128| fee + (fee * BUMP_PERCENT / 100).max(1);
        let (fee, tip) = (more(live.fee), more(live.tip));
        if live.attempts == MAX_BUMPS || most.is_some_and(|most| fee > most) {
            let live = self.agents[who].wallet.live.take();
            self.note(who, format_args!("gives up waiting for nonce {nonce}"));
            return match live.map(|live| live.purpose) {
                Some(Purpose::Action(_)) => self.not_sent(who, "it is still not mined"),
                // What waits behind it tries again.
                Some(Purpose::Resumed) => self.refused(who, None, "what was sent before is still not mined"),
                _ => Ok(()),
            };
        }
        (live.fee, live.tip, live.attempts) = (fee, tip, live.attempts + 1);
        self.attempt(who)
    }

    /// Tells those whose transactions are in a block.
    pub(crate) fn tell_receipts(&mut self, hashes: impl Iterator<Item = (alloy::primitives::Address, B256)>) {
        for (sender, hash) in hashes {
            let Some(who) = self.by_address.get(&sender).copied() else { continue };
            if self.agents[who].wallet.live.as_ref().is_some_and(|live| live.hashes.contains(&hash)) {
                self.plan_for(who, RECEIPT_MS, Doing::Receipt(hash));
            }
        }
    }

    /// Hears of a transaction's fate, unless a re-org has taken it back meanwhile.
    pub(crate) fn receipt(&mut self, who: Who, hash: B256) -> Result<(), Violation> {
        let is_live = self.agents[who].wallet.live.as_ref().is_some_and(|live| live.hashes.contains(&hash));
        if !is_live {
            return Ok(());
        }
        if self.agents[who].cut_off {
            // Asked again until it answers.
            self.plan_for(who, STALL_MS / 4, Doing::Receipt(hash));
            return Ok(());
        }
        let Some(receipt) = self.node.chain.receipt(hash) else { return Ok(()) };
        let Some(live) = self.agents[who].wallet.live.take() else { return Ok(()) };
        let (block, ok) = (receipt.block_number.unwrap_or_default(), receipt.status());
        self.note(who, format_args!("{} is in block {block}{}", live.kind, if ok { "" } else { ", and failed" }));
        self.agents[who].wallet.latest_block = block;
        self.books.gas(live.kind, self.agents[who].group, receipt.gas_used, receipt.effective_gas_price);
        match live.purpose {
            Purpose::Resumed => {
                self.plan_for(who, ENDPOINT_MS, Doing::Send);
                Ok(())
            }
            Purpose::Errand => self.poll(who),
            Purpose::Action(action) if ok => {
                self.agents[who].wallet.mined = Some((block, action));
                self.poll(who)
            }
            Purpose::Action(_) => {
                self.poll(who)?;
                self.step(who, Event::LostRace)
            }
        }
    }

    /// What was next is not sent.
    fn refused(&mut self, who: Who, error: Option<SendError>, text: &str) -> Result<(), Violation> {
        let Some((kind, _, purpose)) = self.agents[who].wallet.next.take() else { return Ok(()) };
        let lost = error.as_ref().is_some_and(SendError::is_lost_race);
        let is_call = error.is_some();
        let text = error.map_or_else(|| text.to_owned(), |error| error.to_string());
        self.note(who, format_args!("does not send {kind}: {text}"));
        let seen = self.agents[who].view.as_ref().map(|view| view.head.hash);
        let is_latest = seen == self.node.chain.hash_of(self.node.chain.height());
        self.books.refused(lost, is_call && is_latest && matches!(purpose, Purpose::Action(_)));
        match purpose {
            Purpose::Action(_) if lost => {
                self.poll(who)?;
                self.step(who, Event::LostRace)
            }
            Purpose::Action(_) => self.not_sent(who, &text),
            Purpose::Errand | Purpose::Resumed => Ok(()),
        }
    }

    fn not_sent(&mut self, who: Who, text: &str) -> Result<(), Violation> {
        self.poll(who)?;
        self.step(who, Event::NotSent(text.to_owned()))
    }
}

fn refusal(kind: &'static str, error: &conun_chain::Error) -> SendError {
    match error {
        conun_chain::Error::Reverted { data, .. } => {
            SendError::Refused { kind, reason: revert::describe(data), revert: Revert::decode(data).map(Box::new) }
        }
        error => SendError::Refused { kind, reason: error.to_string(), revert: None },
    }
}
