//! A3: what waits for a block, in other orders and with copies of it.

use conun_sim::{named, permute};

/// Orders that are tried; `ORDERS=10000` is what `scripts/long orders` does.
fn orders() -> u64 {
    std::env::var("ORDERS").ok().and_then(|text| text.parse().ok()).unwrap_or(80)
}

#[test]
fn nobody_gains_by_copying_what_waits_and_nobody_loses_by_it() {
    let (mut tried, mut copies) = (0, 0);
    for (seed, name) in (1..).zip(["market", "copying", "storm", "lazy-audits"].into_iter().cycle()) {
        let scenario = named(name).unwrap().unwrap();
        let done = permute(&scenario, seed, (orders() / 4).clamp(1, 1_000))
            .unwrap_or_else(|violation| panic!("{name} {seed}: {violation}"));
        (tried, copies) = (tried + done.orders, copies + done.copies);
        if tried >= orders() {
            break;
        }
    }
    println!("orders: {tried} orders, {copies} copies");
    assert!(copies >= tried, "most blocks hold something to copy: {copies} copies in {tried} orders");
}
