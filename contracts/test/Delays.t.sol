// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputes} from "../interfaces/IDisputes.sol";
import {IEscrow} from "../interfaces/IEscrow.sol";
import {Job, Submission} from "../interfaces/IJobRegistry.sol";
import {BallotState, ReplicaState, ReplicatedJob} from "../interfaces/IReplicaRegistry.sol";
import {DisputeFixture} from "./DisputeFixture.sol";

/// How long others can keep a batch from its end (A4 of THREATS.md). The squatter has a tenth of all stake.
contract DelaysTest is DisputeFixture {
    uint256 private constant HONEST = 9;
    uint256 private constant LOTS = 60;
    /// The honest, of equal stake, and then the squatter's.
    address[] private market;

    /// A job that takes all the stake there is: who lets its lease run out has too little left for another, so that the batch is leased
    /// by an honest provider, and its result stands, within two lease times.
    function test_A4_squatterWithATenthOfTheStake_delaysABusyMarketByTwoLeases() public {
        _fill(1);
        Job memory job = _job();
        (job.taskCount, job.batchSize, job.fuelLimit) = (10, 1, 1e9);
        (job.startPrice, job.maxPrice) = (330e18, 330e18);
        _fund(requester, 3300e18);
        _post(job);
        uint256 start = block.timestamp;
        address squatter = market[HONEST];
        _lease(squatter, job, _list(0));
        vm.expectPartialRevert(IEscrow.FreeStakeTooSmall.selector);
        _lease(squatter, job, _list(1));
        for (uint32 i = 0; i < HONEST; ++i) {
            _lease(market[i], job, _list(i + 1));
            _submit(market[i], job, i + 1, 1e9);
        }
        vm.warp(start + WINDOW);
        for (uint32 i = 0; i < HONEST; ++i) {
            jobs.finalise(job, _one(_submission(market[i], job, i + 1, 1e9)));
        }
        // It wins the race for its own batch.
        vm.warp(start + LEASE + 1);
        vm.expectPartialRevert(IEscrow.FreeStakeTooSmall.selector);
        _lease(squatter, job, _list(0));
        _expire(job, _list(0));
        vm.expectPartialRevert(IEscrow.FreeStakeTooSmall.selector);
        _lease(squatter, job, _list(0));
        _lease(market[0], job, _list(0));
        vm.roll(block.number + SUCCESSOR_DELAY);
        vm.warp(block.timestamp + 12 * SUCCESSOR_DELAY);
        _submit(market[0], job, 0, 1e9);
        assertLe(block.timestamp - start, 2 * LEASE);
    }

    /// Where there is more stake than work, who wins every race goes on as long as it can pay: a tenth of what the batch may cost, twice
    /// as much each time, and from the sixth lease on all that it locks, three times what the batch may cost.
    function test_A4_squatterThatWinsEveryRace_paysMoreEachTime() public {
        Job memory job = _job();
        (job.taskCount, job.batchSize) = (1, 1);
        _post(job);
        uint256 worst = _worst(job, 1);
        uint256[7] memory tenths = [uint256(1), 2, 4, 8, 16, 30, 30];
        for (uint256 i = 0; i < 7; ++i) {
            _lease(alice, job, _list(0));
            _passLease();
            uint256 before = escrow.burnable();
            _expire(job, _list(0));
            assertApproxEqAbs(escrow.burnable() - before, tenths[i] * worst / 10, 64);
        }
    }

    /// Jobs of three replicas: whatever the squatter takes by the lot, in ten accounts, and keeps, slots and backups, votes can be
    /// revealed two lease times after the first lease at the latest; and in nine of ten lots all three are there by then.
    function test_A4_squatterWithATenthOfTheStake_delaysAVoteByTwoLeases() public {
        _fill(10);
        ReplicatedJob memory job = _replicated();
        job.job.taskCount = 4;
        uint256 complete;
        uint256 squatted;
        for (uint256 lot = 1; lot <= LOTS; ++lot) {
            uint256 before = vm.snapshotState();
            (bool isSquatted, uint256 committed) = _play(job, lot);
            vm.revertToState(before);
            if (isSquatted) ++squatted;
            if (committed == 3) ++complete;
        }
        assertGt(squatted, LOTS / 10, "the squatter gets slots");
        assertGe(complete, LOTS * 9 / 10);
    }

    /// Of challenges that nobody rules, however many and however late, a payment waits for the last ruling time alone.
    function testFuzz_A4_disputes_delayAPaymentOnce(uint256 count, uint256 seed) public conserved {
        Job memory job = _job();
        _post(job);
        Submission memory given = _submitted(alice, job, 0, 2e9);
        uint256 finalAt = block.timestamp + WINDOW;
        count = bound(count, 1, 4);
        for (uint32 i = 0; i < count; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            vm.warp(block.timestamp + seed % (finalAt - block.timestamp));
            _challenge(seed & 1 == 0 ? dave : erin, job, given, i);
        }
        vm.warp(finalAt + RULING);
        vm.expectPartialRevert(IDisputes.TooEarly.selector);
        _resolve(job, given);
        vm.warp(finalAt + RULING + 1);
        _resolve(job, given);
        jobs.finalise(job, _one(given));
        assertEq(_earned(alice), _price(job, 2e9));
    }

    /// One lot: all take slots and backups in their turn, the honest commit at once. Whether the squatter had a slot, and how many have
    /// committed by the end of the round.
    function _play(ReplicatedJob memory job, uint256 lot) private returns (bool isSquatted, uint256 committed) {
        vm.prank(requester);
        replicas.post(job, _spec(), _contact(), _noPermit());
        _nextBlocks();
        vm.setBlockhash(block.number - 1, keccak256(abi.encode("lot", lot)));
        (address[] memory order, uint256[] memory turns) = _byTurn(job);
        vm.warp(turns[0]);
        uint256 next = 3;
        for (uint256 i = 0; i < 3; ++i) {
            vm.warp(turns[i]);
            _lease(order[i], job, 0);
            if (_isHonest(order[i])) _commit(order[i], job, 0, RIGHT);
        }
        for (uint256 i = 0; i < 3; ++i) {
            if (_isHonest(order[i])) continue;
            isSquatted = true;
            // Its lot begins when half of the lease is over.
            uint256 at = turns[i] + LEASE / 2 + turns[next] - (job.job.rampStart - WIDEN);
            if (at > block.timestamp) vm.warp(at);
            vm.prank(order[next]);
            replicas.backUp(job, 0, order[i]);
            vm.roll(block.number + SUCCESSOR_DELAY);
            if (_isHonest(order[next])) _commit(order[next], job, 0, RIGHT);
            ++next;
        }
        committed = _ballot(job, 0).committed();
        assertLe(block.timestamp, turns[0] + 2 * LEASE);
        if (committed == 3) {
            assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Revealing));
        } else {
            vm.warp(turns[0] + 2 * LEASE + 1);
            for (uint256 i = 0; i < next; ++i) {
                if (_replicaState(job, 0, order[i]) == ReplicaState.Leased) _tryExpire(job, order[i]);
            }
        }
        // Who has committed can show it.
        for (uint256 i = 0; i < next; ++i) {
            if (_replicaState(job, 0, order[i]) == ReplicaState.Committed) _reveal(order[i], job, 0, RIGHT);
        }
        assertEq(_ballot(job, 0).revealed(), committed);
    }

    /// Who was beaten to its slot holds nothing any more.
    function _tryExpire(ReplicatedJob memory job, address who) private {
        try replicas.expire(job, 0, who) {} catch {}
    }

    function _isHonest(address who) private view returns (bool) {
        for (uint256 i = 0; i < HONEST; ++i) {
            if (market[i] == who) return true;
        }
        return false;
    }

    /// All in the order of the lot.
    function _byTurn(ReplicatedJob memory job) private view returns (address[] memory order, uint256[] memory turns) {
        (order, turns) = (new address[](market.length), new uint256[](market.length));
        for (uint256 i = 0; i < market.length; ++i) {
            uint256 turn = replicas.opensAt(job, 0, market[i]);
            uint256 at = i;
            for (; at > 0 && turns[at - 1] > turn; --at) {
                (order[at], turns[at]) = (order[at - 1], turns[at - 1]);
            }
            (order[at], turns[at]) = (market[i], turn);
        }
    }

    /// The fixture's three and six more, and as much stake as one of them has in accounts of the squatter's.
    function _fill(uint256 accounts) private {
        market = [alice, bob, carol];
        for (uint256 i = 3; i < HONEST + accounts; ++i) {
            address who = makeAddr(string.concat("market ", vm.toString(i)));
            _register(who, i < HONEST ? STAKE : STAKE / accounts);
            market.push(who);
        }
        vm.roll(block.number + 1);
    }
}
