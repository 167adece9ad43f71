//! What a replay found, as a page.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, U256};
use conun_replay::{Difference, Flow, Ledger, Outcome, Replayed, Report, What};
use conun_sim::report::{Bar, Page};

use crate::output::{date, short, tokens};

/// Most rows of a list of transactions or differences: a page is to be read.
const MOST: usize = 1_000;

/// The whole page.
pub(super) fn html(report: &Report, outcome: Option<&Outcome>) -> String {
    let mut page =
        Page::new(&format!("Blocks {} to {} of chain {}, replayed", report.first, report.last, report.chain_id));
    page.say(format_args!(
        "Everything below comes from executing the blocks once more, for the deployment {}.",
        report.deployment
    ));
    verdict(&mut page, report);
    compared(&mut page, report);
    books(&mut page, &report.ledger);
    gas(&mut page, report);
    blocks(&mut page, report);
    if let Some(outcome) = outcome {
        changes(&mut page, outcome);
    }
    page.finish()
}

fn verdict(page: &mut Page, report: &Report) {
    match report.differences.len() {
        0 => {
            page.judge(true, "No difference: every transaction did what its receipt says, and no invariant is broken.")
        }
        count => page.judge(
            false,
            format_args!("{count} differences: the chain is not what its blocks lead to, or an invariant is broken."),
        ),
    }
    differences(page, &report.differences);
}

fn differences(page: &mut Page, differences: &[Difference]) {
    for difference in differences.iter().take(MOST) {
        page.judge(false, difference);
    }
    if differences.len() > MOST {
        page.say(format_args!("and {} more", differences.len() - MOST));
    }
}

fn compared(page: &mut Page, report: &Report) {
    let count = |is: fn(&What) -> bool| report.differences.iter().filter(|difference| is(&difference.what)).count();
    let broken = |wanted: &str| {
        let is = |difference: &&Difference| matches!(&difference.what, What::Invariant { name, .. } if *name == wanted);
        report.differences.iter().filter(is).count()
    };
    page.heading("What was compared");
    let row = |what: &str, seen: u64, differ: usize| [what.to_owned(), seen.to_string(), differ.to_string()];
    page.table(
        ["", "compared", "differ"],
        [
            row(
                "transactions: whether they succeeded",
                report.transactions,
                count(|what| matches!(what, What::Status { .. })),
            ),
            row("transactions: gas", report.transactions, count(|what| matches!(what, What::Gas { .. }))),
            row("logs (of transactions with others)", report.logs, count(|what| matches!(what, What::Logs { .. }))),
            row("storage values of the contracts", report.slots, count(|what| matches!(what, What::Slot { .. }))),
            row("I1 after each block: what the Escrow holds is what it owes", report.checked, broken("I1")),
            row(
                "I2 after each block: no batch ends twice, no job pays more than its deposit",
                report.checked,
                broken("I2"),
            ),
        ],
    );
}

fn number(wei: U256) -> f64 {
    tokens(wei).parse().unwrap_or(f64::MAX)
}

/// Who paid whom for which work.
fn books(page: &mut Page, ledger: &Ledger) {
    page.heading("Who paid whom for which work");
    if ledger.flows.is_empty() {
        page.say("Nobody was paid for work.");
    } else {
        let row = |flow: &Flow| {
            let Flow { requester, provider, job, batches, tasks, fuel, paid } = flow;
            let [batches, tasks, fuel] = [batches.to_string(), tasks.to_string(), fuel.to_string()];
            [short(job), short(requester), short(provider), batches, tasks, fuel, tokens(*paid)]
        };
        page.table(
            ["job", "requester", "provider", "batches", "tasks", "fuel", "CON"],
            ledger.flows.iter().take(MOST).map(row),
        );
        if ledger.flows.len() > MOST {
            page.say(format_args!("and {} more", ledger.flows.len() - MOST));
        }
        let mut earned = BTreeMap::<Address, U256>::new();
        ledger.flows.iter().for_each(|flow| *earned.entry(flow.provider).or_default() += flow.paid);
        let mut earned: Vec<_> = earned.into_iter().collect();
        earned.sort_unstable_by_key(|(account, paid)| (std::cmp::Reverse(*paid), *account));
        let bar = |(account, paid): &(Address, U256)| Bar {
            name: short(account),
            value: number(*paid),
            half: 0.0,
            marked: false,
        };
        page.say("CON that each provider was paid, the twenty who were paid most:");
        page.bars(&earned.iter().take(20).map(bar).collect::<Vec<_>>(), "CON paid to each provider");
    }
    page.heading("Tokens in and out");
    let Ledger { deposited, withdrawn, paid_out, burned, jobs, ended, .. } = ledger;
    let of = |by: &BTreeMap<Address, U256>, account: &Address| tokens(by.get(account).copied().unwrap_or_default());
    let accounts: BTreeSet<_> = deposited.keys().chain(withdrawn.keys()).chain(paid_out.keys()).collect();
    let row = |account: &&Address| {
        [account.to_string(), of(deposited, account), of(withdrawn, account), of(paid_out, account)]
    };
    page.table(["account", "CON that came in", "withdrawn", "earnings paid out"], accounts.iter().take(MOST).map(row));
    page.say(format_args!(
        "{} CON were burned: fees and lost stake are when somebody calls Escrow.burn. {jobs} jobs were posted, {ended} ended.",
        tokens(*burned)
    ));
}

fn gas(page: &mut Page, report: &Report) {
    page.heading("Gas by function");
    let row = |(function, calls): (&String, &conun_replay::Calls)| {
        let counts = [calls.transactions, calls.failed, calls.gas, calls.gas / calls.transactions.max(1)];
        let [transactions, failed, gas, each] = counts.map(|count| count.to_string());
        [function.clone(), transactions, failed, gas, each]
    };
    page.table(["function", "transactions", "failed", "gas", "gas each"], report.calls.iter().map(row));
    let bar = |(function, calls): (&String, &conun_replay::Calls)| Bar {
        name: function.clone(),
        value: calls.gas as f64,
        half: 0.0,
        marked: calls.failed != 0,
    };
    page.say("Gas of all its transactions; in another colour where some failed:");
    page.bars(&report.calls.iter().map(bar).collect::<Vec<_>>(), "Gas by function");
}

/// Block by block; of a long range those with differences, then those with transactions, come before the others.
fn blocks(page: &mut Page, report: &Report) {
    page.heading("Block by block");
    let mut shown: Vec<_> = report.blocks.iter().collect();
    shown.sort_by_key(|block| (block.differences == 0, block.transactions == 0));
    shown.truncate(MOST);
    shown.sort_by_key(|block| block.number);
    let row = |block: &&Replayed| {
        let Replayed { number, timestamp, transactions, gas, differences } = **block;
        let [number, transactions, gas, differences] = [number, transactions, gas, differences].map(|n| n.to_string());
        [number, date(timestamp), transactions, gas, differences]
    };
    page.table(["block", "time", "transactions", "gas", "differences"], shown.iter().map(row));
    if report.blocks.len() > MOST {
        let left = report.blocks.len() - MOST;
        page.say(format_args!("and {left} more: those with differences or transactions were listed first"));
    }
}

fn changes(page: &mut Page, outcome: &Outcome) {
    page.heading("With the changes");
    let row = |changed: &conun_replay::Changed| {
        let which = changed.transaction.map_or_else(|| "added".to_owned(), short);
        [changed.block.to_string(), which, changed.function.clone().unwrap_or_default(), changed.outcome.clone()]
    };
    page.table(["block", "transaction", "function", "what came of it"], outcome.changed.iter().take(MOST).map(row));
    if outcome.broken.is_empty() {
        page.judge(true, "No invariant is broken with them.");
    }
    differences(page, &outcome.broken);
    books(page, &outcome.ledger);
}
