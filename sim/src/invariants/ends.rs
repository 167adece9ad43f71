//! I11: a run comes to an end. What goes round in one moment, or is sent again and again, breaks it like anything else: a run has no clock
//! on the wall that would stop it.

use crate::{
    agent::Who,
    error::{Invariant, Violation},
    world::World,
};

/// Most events of one millisecond, and as many more for each agent.
const AT_ONCE: u64 = 1_000;
const AT_ONCE_EACH: u64 = 100;

/// Most calls that an agent tries for each of its looks at the chain, one after each block among them, and as many more.
const PER_LOOK: u64 = 2;
const CALLS: u64 = 100;

/// Blocks in which what agents had sent has to be mined once they are not there any more.
const LEFT_BLOCKS: u64 = 1_000;

/// Events of the present millisecond.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    now: u64,
    events: u64,
}

impl World {
    /// Counts an event.
    pub(crate) fn check_pace(&mut self) -> Result<(), Violation> {
        if self.pace.now != self.now {
            self.pace = Pace { now: self.now, events: 0 };
        }
        self.pace.events += 1;
        let most = AT_ONCE + AT_ONCE_EACH * self.agents.len() as u64;
        if self.pace.events > most {
            let what = format!("more than {most} things happen in one millisecond, and it does not end");
            return Err(self.violation(Invariant::I11, what, &[]));
        }
        Ok(())
    }

    /// Counts a call that an agent tries.
    pub(crate) fn check_calls(&mut self, who: Who) -> Result<(), Violation> {
        let agent = &mut self.agents[who];
        agent.wallet.calls += 1;
        let (calls, looks) = (agent.wallet.calls, self.now / agent.poll_ms.max(1) + self.books.figures.blocks);
        if calls > CALLS + PER_LOOK * looks {
            let what = format!("#{who} has tried {calls} calls, and had {looks} looks at the chain to decide on one");
            return Err(self.violation(Invariant::I11, what, &[format!("#{who} ")]));
        }
        Ok(())
    }

    /// Whether so many blocks in a row, of what nobody adds to any more, still do not take all of it.
    pub(crate) fn check_left(&self, blocks: u64) -> Result<(), Violation> {
        if blocks <= LEFT_BLOCKS {
            return Ok(());
        }
        let what = format!("{blocks} blocks do not suffice for what agents have left behind");
        Err(self.violation(Invariant::I11, what, &[]))
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, U256};
    use conun_bindings::abi::ConunToken;

    use super::*;
    use crate::{agent::Purpose, keeper::request, named};

    fn market() -> World {
        World::new(&named("brief").unwrap().unwrap(), 1)
    }

    #[test]
    fn what_goes_round_in_one_moment_ends_as_a_violation() {
        let mut world = market();
        world.play(20_000, |_| false).unwrap();
        // A look that is followed by the next one at once.
        world.agents[0].poll_ms = 0;
        let violation = world.play(60_000, |_| false).unwrap_err();
        assert_eq!(violation.invariant, Invariant::I11, "{violation}");
    }

    #[test]
    fn who_sends_without_end_is_told_by_its_number() {
        let mut world = market();
        world.play(20_000, |_| false).unwrap();
        let who = world.agents.len() - 1;
        let call = || ConunToken::transferCall { to: Address::ZERO, value: U256::MAX };
        // It is refused each time, and tried again as soon as that is known.
        let violation = (0..1_000).find_map(|_| {
            let token = world.node.contracts.token;
            world.send(who, "transfer", request(token, call()), Purpose::Errand);
            let until = world.now + 200;
            world.play(until, |_| false).err()
        });
        let violation = violation.expect("no run goes on for ever");
        assert_eq!(violation.invariant, Invariant::I11, "{violation}");
        assert!(violation.what.contains(&format!("#{who} has tried")), "{violation}");
    }
}
