//! The demo's books: who held what before and after, to the last wei.

use std::collections::BTreeMap;

use alloy::primitives::{Address, U256};
use conun_agent::requester::Ledger;
use conun_bindings::abi::{ConunToken, Escrow};
use serde::Serialize;

use super::Report;
use crate::{
    cmd::devnet::Market,
    output::{Table, short, tokens},
};

/// Everybody's tokens at one moment, token wei: in the account and in the Escrow together.
pub(super) struct Holdings {
    requester: U256,
    providers: BTreeMap<Address, U256>,
    /// What the Escrow owes to these accounts, the devnet's, and nobody (bonds to be burned).
    owed: U256,
    /// What it holds.
    held: U256,
    burnable: U256,
}

impl Holdings {
    pub(super) async fn read(market: &Market, requester: Address, providers: &[Address]) -> eyre::Result<Self> {
        let token = ConunToken::new(market.contracts.token, &market.provider);
        let escrow = Escrow::new(market.contracts.escrow, &market.provider);
        let burnable = escrow.burnable().call().await?;
        let mut owed = burnable;
        let mut total = BTreeMap::new();
        let everybody = market.accounts.iter().map(|signer| signer.address()).chain(providers.iter().copied());
        for account in everybody {
            let held = escrow.balanceOf(account).call().await?;
            let inside = [held.available, held.locked, held.earned.to(), held.stake.to()].map(U256::from);
            let inside: U256 = inside.into_iter().sum();
            owed += inside;
            total.insert(account, token.balanceOf(account).call().await? + inside);
        }
        Ok(Self {
            requester: total[&requester],
            providers: providers.iter().map(|account| (*account, total[account])).collect(),
            owed,
            held: token.balanceOf(market.contracts.escrow).call().await?,
            burnable,
        })
    }
}

/// What changed hands, token wei.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Books {
    /// What the requester has less.
    pub(super) requester_paid: U256,
    /// What the providers have more, after bonds.
    pub(super) providers_gained: U256,
    /// Bonds of expired leases, to be burned.
    pub(super) burned: U256,
    /// What the Escrow holds.
    pub(super) escrow_holds: U256,
    /// What it owes to the demo's people and the devnet's accounts, and bonds to be burned. On a chain that is not the demo's own
    /// it may owe others something.
    pub(super) escrow_owes: U256,
    /// Whether all of this agrees with the ledger.
    pub(super) add_up: bool,
}

impl Books {
    pub(super) fn close(before: &Holdings, after: &Holdings, ledger: &Ledger) -> Self {
        let requester_paid = before.requester.saturating_sub(after.requester);
        let burned = after.burnable - before.burnable;
        let gained = |account: &Address| after.providers[account] + burned;
        let sum = |holdings: &Holdings| holdings.providers.values().copied().sum::<U256>();
        let providers_gained = (sum(after) + burned).saturating_sub(sum(before)).saturating_sub(burned);
        let each_was_paid = ledger.providers.iter().all(|provider| {
            // Bonds are taken from somebody: each has at least what it earned, less all bonds.
            gained(&provider.payout) >= before.providers[&provider.payout] + provider.earned
        });
        let add_up = requester_paid == ledger.spent
            && sum(after) + burned == sum(before) + ledger.spent
            && after.held + before.owed == before.held + after.owed
            && each_was_paid;
        Self { requester_paid, providers_gained, burned, escrow_holds: after.held, escrow_owes: after.owed, add_up }
    }
}

/// The report as people read it.
pub(super) fn text(report: &Report) -> String {
    let ledger = &report.ledger;
    let mut providers = Table::new(["provider", "batches", "tasks", "fuel", "CON earned", ""]);
    for provider in &ledger.providers {
        let killed = report.killed.as_ref().is_some_and(|killed| killed.provider == provider.account);
        providers.row([
            provider.account.to_string(),
            provider.batches.to_string(),
            provider.tasks.to_string(),
            provider.fuel.to_string(),
            tokens(provider.earned),
            if killed { "killed half-way".to_owned() } else { String::new() },
        ]);
    }
    let mut gas = Table::new(["transaction", "count", "gas", "gas each"]);
    for (kind, used) in &ledger.gas {
        let each = used.gas / used.transactions.max(1);
        gas.row([(*kind).to_owned(), used.transactions.to_string(), used.gas.to_string(), each.to_string()]);
    }
    let mut phases = Table::new(["phase", "seconds"]);
    for phase in &report.phases {
        phases.row([phase.name.to_owned(), format!("{:.1}", phase.seconds)]);
    }
    let mut books = Table::new(["requester", "CON"]);
    books.row(["deposit".into(), tokens(ledger.deposit)]);
    books.row(["spent".into(), tokens(ledger.spent)]);
    books.row(["refunded".into(), tokens(ledger.refunded)]);
    let fault = match &report.killed {
        Some(killed) => format!(
            "{} was killed holding batches {:?}; {} leases expired, others did that work, {} CON of its stake burned\n",
            short(killed.provider),
            killed.held,
            ledger.expired_leases,
            tokens(report.books.burned)
        ),
        None => String::new(),
    };
    let verdict = if report.books.add_up && ledger.adds_up() {
        "the books add up to the last wei"
    } else {
        "THE BOOKS DO NOT ADD UP"
    };
    format!(
        "\n{providers}\n{fault}\n{books}\n{gas}\ngas per task: {}\n\n{phases}\n{verdict}; the picture is {} ({})",
        ledger.gas_per_task,
        if report.picture.correct { "the expected one" } else { "WRONG" },
        report.picture.hash
    )
}
