//! A3: what waits for a block, in other orders and with copies of it.

use conun_sim::{named, permute};

/// A number that `scripts/long orders` sets: how many orders are tried, and the first seed.
fn number(name: &str, usually: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usually)
}

#[test]
fn nobody_gains_by_copying_what_waits_and_nobody_loses_by_it() {
    let (orders, first) = (number("ORDERS", 80), number("ORDERS_FIRST", 1));
    let mut all = conun_sim::Orders::default();
    for (seed, name) in (first..).zip(["market", "copying", "storm", "lazy-audits"].into_iter().cycle()) {
        let scenario = named(name).unwrap().unwrap();
        let most = (orders / 4).max(1);
        let done = permute(&scenario, seed, most).unwrap_or_else(|violation| panic!("{name} {seed}: {violation}"));
        all.orders += done.orders;
        all.copies += done.copies;
        all.mined += done.mined;
        if all.orders >= orders {
            break;
        }
    }
    println!("orders: {} orders, {} copies, {} of them mined", all.orders, all.copies, all.mined);
    assert!(all.copies >= all.orders, "most blocks hold something to copy: {all:?}");
}
