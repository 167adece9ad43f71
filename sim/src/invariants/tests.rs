//! Each invariant breaks when it is broken.

use conun_agent::store::Salt;
use serde_json::json;

use super::*;
use crate::{named, world::World};

/// A market after ten minutes, with results under way.
fn market() -> World {
    let mut world = opened();
    world.play(600_000, |_| false).unwrap();
    world
}

/// The same before anything happens.
fn opened() -> World {
    let mut scenario = named("market").unwrap().unwrap();
    scenario.requesters[0].arrivals = crate::scenario::Arrivals::At(vec![5.0, 10.0]);
    World::new(&scenario, 1)
}

/// Whether anybody's stake is held.
fn is_held(world: &mut World) -> bool {
    world.agents.iter().any(|agent| !world.node.balance(agent.address).held.is_zero())
}

fn provider(world: &World) -> (Who, Address) {
    let who = (0..).find(|who| matches!(world.agents[*who].part, Part::Provider(_))).unwrap();
    (who, world.agents[who].address)
}

/// Adds `add` to word `offset` of an account in the Escrow.
fn tamper(world: &World, account: Address, offset: u64, add: U256) {
    let slot = U256::from_be_bytes(keccak256((account, U256::ZERO).abi_encode()).0) + U256::from(offset);
    let escrow = world.node.contracts.escrow;
    let value = world.node.chain.slot(escrow, slot) + add;
    world.node.chain.handle("anvil_setStorageAt", json!([escrow, slot, value])).unwrap();
}

fn next_block(world: &mut World) -> Result<(), Violation> {
    let until = world.now + 13_000;
    world.play(until, |_| false)
}

#[test]
fn a_market_that_nobody_tampers_with_is_in_order() {
    let mut world = opened();
    world.play(600_000, is_held).unwrap();
    assert!(is_held(&mut world), "nobody leases anything");
    world.check_index().unwrap();
    next_block(&mut world).unwrap();
}

#[test]
fn a_token_from_nowhere_breaks_i1() {
    let mut world = market();
    let (_, account) = provider(&world);
    tamper(&world, account, 0, U256::ONE);
    assert_eq!(next_block(&mut world).unwrap_err().invariant, Invariant::I1);
}

#[test]
fn a_batch_that_ends_twice_breaks_i2() {
    let mut world = market();
    let settled = |number: &u64| {
        world.node.chain.receipts(*number).iter().flat_map(|receipt| receipt.logs().to_vec()).any(|log| {
            JobRegistryEvents::decode_log(&log.inner)
                .is_ok_and(|event| matches!(event.data, JobRegistryEvents::BatchSettled(_)))
        })
    };
    let number = (1..=world.node.chain.height()).find(settled).expect("something was paid in ten minutes");
    let again = Mined {
        number: world.node.chain.height() + 1,
        hash: B256::ZERO,
        timestamp: 0,
        base_fee: 0,
        receipts: world.node.chain.receipts(number),
    };
    assert_eq!(world.read_logs(&again).unwrap_err().invariant, Invariant::I2);
}

#[test]
fn a_record_for_nothing_breaks_i5() {
    let mut world = market();
    next_block(&mut world).unwrap();
    let (_, account) = provider(&world);
    tamper(&world, account, 2, U256::ONE << 32);
    // A re-org or a fee in the very next block would hide it: neither is there in this market's first minutes.
    assert_eq!(next_block(&mut world).unwrap_err().invariant, Invariant::I5);
}

#[test]
fn a_second_result_breaks_i6() {
    let mut world = market();
    let (who, _) = provider(&world);
    let record = |byte: u8| {
        let root = B256::repeat_byte(byte);
        ResultRecord { root, fuel: 1, outputs: root, bound: root, salt: Salt::default() }
    };
    let commit = |byte: u8| Action::Commit(B256::ZERO, vec![(3, record(byte))]);
    world.check_promises(who, &commit(1)).unwrap();
    world.check_promises(who, &commit(1)).unwrap();
    assert_eq!(world.check_promises(who, &commit(2)).unwrap_err().invariant, Invariant::I6);
}

#[test]
fn another_transaction_under_a_waiting_nonce_breaks_i6() {
    let mut world = market();
    let (who, account) = provider(&world);
    let nonce = world.node.chain.nonce(account) + 5;
    let request = keeper::request(world.node.contracts.token, ConunToken::totalSupplyCall {});
    world.node.queue(account, nonce, &request, 100_000, (5_000_000_000, 1_000_000_000)).unwrap();
    let same = keccak256(request.input.input().unwrap());
    world.check_nonce(who, nonce, same).unwrap();
    assert_eq!(world.check_nonce(who, nonce, B256::ZERO).unwrap_err().invariant, Invariant::I6);
}

#[test]
fn stake_that_the_index_does_not_know_of_breaks_i8() {
    let mut world = market();
    let (_, account) = provider(&world);
    // Held, but by no lease.
    tamper(&world, account, 1, U256::ONE << 168);
    assert_eq!(world.check_index().unwrap_err().invariant, Invariant::I8);
}

#[test]
fn stake_that_stays_held_breaks_i4() {
    let mut scenario = named("market").unwrap().unwrap();
    scenario.seconds = 600;
    let mut world = World::new(&scenario, 1);
    world.play(600_000, |_| false).unwrap();
    let (who, account) = provider(&world);
    tamper(&world, account, 1, U256::ONE << 168);
    let violation = world.run().unwrap_err();
    // The index notices first, unless it is not asked.
    assert!(matches!(violation.invariant, Invariant::I8 | Invariant::I4), "{violation}");
    assert!(violation.trace.iter().all(|line| line.contains(&format!("#{who} "))), "{:?}", violation.trace);
    let index = world.node.look(world.honest_feed).unwrap().index.clone();
    assert_eq!(world.take_out(&index).unwrap_err().invariant, Invariant::I4);
}
