// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Balance, Consent} from "../interfaces/IEscrow.sol";
import {
    BallotState,
    IReplicaRegistry,
    ReplicaState,
    ReplicatedJob,
    Reveal,
    Tally
} from "../interfaces/IReplicaRegistry.sol";
import {ProviderRecord} from "../interfaces/IReputation.sol";
import {Ballot} from "../libraries/Ballots.sol";
import {ReplicaCases} from "./ReplicaCases.sol";

/// @notice Votes: what is believed, and what becomes of those who agreed, dissented or kept silent.
contract ReplicaRegistryVoteTest is ReplicaCases {
    function test_threeThatAgree_arePaidAfterTheWindow() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        uint256 deposit = _locked(requester);
        _voted(job, 0, RIGHT, RIGHT, RIGHT);
        uint256 finalAt = block.timestamp + WINDOW;
        Tally memory tally = _tally(0, RIGHT, RIGHT, RIGHT);
        vm.warp(finalAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, finalAt));
        _finalise(job, tally);
        vm.warp(finalAt);
        uint256 price = _price(job.job, RIGHT);
        uint256 burned = 3 * _fee(price);
        uint256 refund = _cost(job, 4) - 3 * price - burned;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BatchEnded(
            jobId, 0, BallotState.Settled, _result(0, RIGHT).root, RIGHT, refund, burned, Consent.TimedOut
        );
        _finalise(job, tally);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_earned(three[i]), price);
            assertEq(_lockedStake(three[i]), 0);
            assertEq(_checks(three[i]), 1);
        }
        assertEq(escrow.burnable(), burned);
        assertEq(_available(requester), refund);
        assertEq(_locked(requester), deposit - _cost(job, 4));
        // I2: once.
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Settled));
        _finalise(job, tally);
    }

    /// THREATS.md, votes: with a fifth faulty and an error of 10^-3, seven checks each make two enough, and six do not.
    function test_records_makeFewerVotesEnough() public solvent {
        ReplicatedJob memory job = _replicated();
        (job.assurance.replicas, job.assurance.target) = (2, 999_000_000);
        _open(job);
        for (uint32 batch = 0; batch < 2; ++batch) {
            _setChecks(alice, 7 - batch);
            _setChecks(bob, 7 - batch);
            _leaseCommitReveal(job, batch, alice, bob, RIGHT, RIGHT);
        }
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT, bob, RIGHT));
        _finalise(job, _tally(1, alice, RIGHT, bob, RIGHT));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Settled));
        assertEq(uint8(_stateOf(job, 1)), uint8(BallotState.Committing));
        assertEq(_ballot(job, 1).wanted(), 3);
    }

    function test_aRecordCounts_asItWasAtTheLease() public solvent {
        ReplicatedJob memory job = _replicated();
        (job.assurance.replicas, job.assurance.target) = (2, 999_000_000);
        _open(job);
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        _setChecks(alice, 1000);
        _setChecks(bob, 1000);
        _commit(alice, job, 0, RIGHT);
        _commit(bob, job, 0, RIGHT);
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, RIGHT);
        _finalise(job, _tally(0, alice, RIGHT, bob, RIGHT));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Committing));
    }

    function test_dissent_losesTheStakeAndTheRecord() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _setChecks(alice, 10);
        _setChecks(bob, 10);
        _setChecks(carol, 3);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        vm.warp(block.timestamp + WINDOW);
        bytes32 jobId = replicas.jobIdOf(job);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.ReplicaSlashed(jobId, carol, 0, _lockOf(job, 4));
        _finalise(job, _tally(0, RIGHT, RIGHT, WRONG));
        assertEq(_stake(carol), STAKE - _lockOf(job, 4));
        assertEq(_lockedStake(carol), 0);
        assertEq(_earned(carol), 0);
        ProviderRecord memory record = reputation.providerRecord(carol);
        assertEq(record.checks, 0);
        assertEq(record.failed, 1);
        assertEq(_checks(alice), 11);
        assertEq(escrow.burnable(), _lockOf(job, 4) + 2 * _fee(_price(job.job, RIGHT)));
    }

    /// The same root at another fuel is another result.
    function test_anotherFuel_isDissent() public solvent {
        ReplicatedJob memory job = _replicated();
        job.assurance.target = 500_000_000;
        _open(job);
        Reveal[] memory given = new Reveal[](3);
        address[] memory who = new address[](3);
        for (uint256 i = 0; i < 3; ++i) {
            (who[i], given[i]) = (three[i], _revealed(three[i], 0, RIGHT));
            _lease(three[i], job, 0);
        }
        given[2].fuel += 1;
        for (uint256 i = 0; i < 3; ++i) {
            _commitTo(three[i], job, given[i]);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _revealTo(three[i], job, given[i]);
        }
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tallyOf(0, who, given));
        assertEq(_earned(alice), _price(job.job, RIGHT));
        assertEq(_stake(carol), STAKE - _lockOf(job, 4));
    }

    /// Rule 6: nobody confirmed it, so it burns no fee and is no check.
    function test_oneHeavyVote_outweighsTwo_andIsNoCheck() public solvent {
        ReplicatedJob memory job = _replicated();
        job.assurance.target = 950_000_000;
        _open(job);
        // Odds of 499 against 4 x 4.
        _setChecks(carol, 100);
        _voted(job, 0, WRONG, WRONG, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, WRONG, WRONG, RIGHT));
        assertEq(_earned(carol), _price(job.job, RIGHT));
        assertEq(_checks(carol), 100);
        assertEq(_stake(alice), STAKE - _lockOf(job, 4));
        assertEq(escrow.burnable(), 2 * _lockOf(job, 4));
    }

    /// Rule 5: silence is no cheaper than being wrong.
    function test_anUnrevealedCommit_isPunishedExactlyAsAWrongRoot() public solvent {
        bytes32[2] memory ends;
        uint256 before = vm.snapshotState();
        for (uint256 i = 0; i < 2; ++i) {
            ReplicatedJob memory job = _replicated();
            _open(job);
            _setChecks(alice, 10);
            _setChecks(bob, 10);
            _setChecks(carol, 5);
            _committedBy(job, 0, RIGHT, RIGHT, WRONG);
            _reveal(alice, job, 0, RIGHT);
            _reveal(bob, job, 0, RIGHT);
            if (i == 0) _reveal(carol, job, 0, WRONG);
            vm.warp(block.timestamp + REVEAL + WINDOW + 1);
            _finalise(job, _tally(0, RIGHT, RIGHT, i == 0 ? WRONG : 0));
            assertEq(_stake(carol), STAKE - _lockOf(job, 4));
            ends[i] = keccak256(
                abi.encode(
                    escrow.balanceOf(alice),
                    escrow.balanceOf(bob),
                    escrow.balanceOf(carol),
                    escrow.balanceOf(requester),
                    escrow.burnable()
                )
            );
            if (i == 0) assertTrue(vm.revertToState(before));
        }
        assertEq(ends[0], ends[1]);
    }

    /// Rule 6: the fee is what a check costs.
    function test_aCheck_needsTheCheckFee() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        uint64 enough = 1e8;
        assertEq(_fee(_price(job.job, enough)), CHECK_FEE);
        _voted(job, 0, enough - 1, enough - 1, enough - 1);
        _voted(job, 1, enough, enough, enough);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, enough - 1, enough - 1, enough - 1));
        assertEq(_checks(alice), 0);
        uint256 fee = _fee(_price(job.job, enough - 1));
        assertGt(fee, 0);
        assertEq(escrow.burnable(), 3 * fee);
        _finalise(job, _tally(1, enough, enough, enough));
        assertEq(_checks(alice), 1);
        assertEq(_checks(bob), 1);
        assertEq(_checks(carol), 1);
    }

    function test_theTally_isOfEverybodyInOrderAndOfWhatTheyRevealed() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _committedBy(job, 0, RIGHT, RIGHT, WRONG);
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, RIGHT);
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        Tally memory good = _tally(0, RIGHT, RIGHT, 0);
        // One missing, one twice, another order.
        _wrongVotes(job, _tally(0, alice, RIGHT, bob, RIGHT));
        Tally memory bad = _copy(good);
        bad.votes[1] = bad.votes[0];
        _wrongVotes(job, bad);
        bad = _copy(good);
        (bad.votes[0], bad.votes[1]) = (good.votes[1], good.votes[0]);
        _wrongVotes(job, bad);
        // A stranger for one of them, another root or fuel, words put into a silent mouth, silence into another.
        bad = _copy(good);
        bad.votes[2].provider = address(type(uint160).max);
        _wrongVotes(job, bad);
        _wrongVotes(job, _tally(0, RIGHT, WRONG, 0));
        bad = _copy(good);
        for (uint256 i = 0; i < 3; ++i) {
            if (bad.votes[i].provider == alice) bad.votes[i].fuel -= 1;
        }
        _wrongVotes(job, bad);
        _wrongVotes(job, _tally(0, RIGHT, RIGHT, WRONG));
        _wrongVotes(job, _tally(0, RIGHT, 0, 0));
        // Fuel for who was silent: half of it would be burned were the vote undecided.
        bad = _copy(good);
        for (uint256 i = 0; i < 3; ++i) {
            if (bad.votes[i].provider == carol) bad.votes[i].fuel = RIGHT;
        }
        _wrongVotes(job, bad);
        // Nor a root without fuel: it would be a group of its own, or one of others' that computed for nothing.
        bad = _copy(good);
        for (uint256 i = 0; i < 3; ++i) {
            if (bad.votes[i].provider == carol) bad.votes[i].root = bad.votes[(i + 1) % 3].root;
        }
        _wrongVotes(job, bad);
        _finalise(job, good);
    }

    /// A9: at the least target a job may have, a half, neither side of a tie is believed.
    function test_aTie_slashesNobody() public solvent {
        ReplicatedJob memory job = _replicated();
        (job.assurance.replicas, job.assurance.limit, job.assurance.target) = (2, 2, 500_000_000);
        _open(job);
        _leaseCommitReveal(job, 0, alice, bob, RIGHT, WRONG);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT, bob, WRONG));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Undecided));
        assertEq(_stake(alice) + _stake(bob), 2 * STAKE);
    }

    // Undecided

    /// Rule 1: half of what was computed is burned: undecided votes are no free computing, and nobody is to blame.
    function test_undecidedAtTheLimit_burnsHalfAndSlashesNobody() public solvent {
        ReplicatedJob memory job = _replicated();
        job.assurance.limit = 3;
        bytes32 jobId = _open(job);
        uint256 deposit = _locked(requester);
        _setChecks(carol, 2);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        uint256 half = 2 * (_price(job.job, RIGHT) / 2) + _price(job.job, WRONG) / 2;
        // The best group; no window: nothing is paid that could be disputed.
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BatchEnded(
            jobId, 0, BallotState.Undecided, _result(0, RIGHT).root, RIGHT, _cost(job, 4) - half, half, Consent.None
        );
        _finalise(job, _tally(0, RIGHT, RIGHT, WRONG));
        assertEq(escrow.burnable(), half);
        assertEq(_available(requester), _cost(job, 4) - half);
        assertEq(_locked(requester), deposit - _cost(job, 4));
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_stake(three[i]), STAKE);
            assertEq(_lockedStake(three[i]), 0);
            assertEq(_earned(three[i]), 0);
            assertEq(reputation.providerRecord(three[i]).failed, 0);
        }
        assertEq(_checks(alice), 0);
        assertEq(_checks(carol), 2);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Undecided));
        _lease(dave, job, 0);
    }

    /// Else whoever sees that its lie will be contradicted would say nothing, and lose nothing.
    function test_undecided_slashesWhoWasSilent() public solvent {
        ReplicatedJob memory job = _replicated();
        job.assurance.limit = 3;
        _open(job);
        _setChecks(bob, 7);
        _committedBy(job, 0, RIGHT, RIGHT, WRONG);
        uint256 lock = _lockedStake(bob);
        _reveal(alice, job, 0, RIGHT);
        _reveal(carol, job, 0, WRONG);
        vm.warp(block.timestamp + REVEAL + 1);
        _finalise(job, _tally(0, RIGHT, 0, WRONG));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Undecided));
        assertEq(_stake(bob), STAKE - lock);
        assertEq(_checks(bob), 0);
        assertEq(reputation.providerRecord(bob).failed, 1);
        assertEq(_stake(alice) + _stake(carol), 2 * STAKE);
    }

    function testFuzz_everyVote_isSolvent(uint8[3] memory choice, uint16[3] memory checks, uint32 target)
        public
        solvent
    {
        ReplicatedJob memory job = _replicated();
        job.assurance.limit = 3;
        job.assurance.target = uint32(bound(target, 500_000_000, 984_615_384));
        _open(job);
        uint64[3] memory fuels;
        for (uint256 i = 0; i < 3; ++i) {
            _setChecks(three[i], checks[i]);
            // 0 for silence.
            fuels[i] = uint64(choice[i] % 4) * 1e9;
        }
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _commit(three[i], job, 0, fuels[i] == 0 ? 1 : fuels[i]);
        }
        for (uint256 i = 0; i < 3; ++i) {
            if (fuels[i] != 0) _reveal(three[i], job, 0, fuels[i]);
        }
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        _finalise(job, _tally(0, fuels[0], fuels[1], fuels[2]));
        BallotState state = _stateOf(job, 0);
        bool silent = fuels[0] + fuels[1] + fuels[2] == 0;
        assertEq(state == BallotState.Open, silent);
        assertTrue(silent || state == BallotState.Settled || state == BallotState.Undecided);
        for (uint256 i = 0; i < 3; ++i) {
            Balance memory entry = escrow.balanceOf(three[i]);
            assertEq(entry.held, 0);
            bool slashed = entry.stake != STAKE;
            if (state == BallotState.Undecided) {
                assertEq(entry.earned, 0);
                assertEq(slashed, fuels[i] == 0, "an undecided vote costs those who were silent");
            } else {
                assertEq(slashed, entry.earned == 0, "paid or slashed");
            }
            assertTrue(!slashed || _checks(three[i]) == 0);
        }
    }

    // Extra rounds

    function test_oneMoreSlotAtATime_opensUntilAGroupIsBelieved() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        uint32 end = uint32(block.timestamp) + 2 * LEASE;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.RoundOpened(jobId, 0, 4, end);
        // At once: nobody needs a window to see that this is no majority.
        _finalise(job, _tally(0, RIGHT, RIGHT, WRONG));
        Ballot ballot = _ballot(job, 0);
        assertEq(uint8(ballot.state()), uint8(BallotState.Committing));
        assertEq(ballot.openedBlock(), block.number);
        assertEq(ballot.time(), end);
        assertFalse(ballot.isDrawn(), "by no lot");
        // The same provider never holds two replicas of a batch, and its first stays as it is.
        vm.warp(block.timestamp + WIDEN);
        _nextBlocks();
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Revealed)
        );
        _lease(alice, job, 0);
        _lease(dave, job, 0);
        assertNotEq(ballot.seed(), 0);
        assertEq(_ballot(job, 0).seed(), ballot.seed(), "the round's lot is not the job's");
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoFreeSlot.selector, 0));
        _lease(erin, job, 0);
        assertEq(_lockedStake(alice), _lockOf(job, 4));
    }

    /// Rule 3: the lot starts anew, over those registered before the round opened.
    function test_aSingleVote_whereThreeWereWanted_needsItsOddsAsAnyGroup() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(alice, job, 0);
        _commit(alice, job, 0, RIGHT);
        vm.warp(_ballot(job, 0).time() + 1);
        _reveal(alice, job, 0, RIGHT);
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        address[] memory who = new address[](1);
        uint64[] memory fuels = new uint64[](1);
        (who[0], fuels[0]) = (alice, RIGHT);
        _finalise(job, _tally(0, who, fuels));
        assertEq(_earned(alice), 0);
        assertTrue(_ballot(job, 0).state() == BallotState.Committing);
    }

    function test_anExtraSlot_hasALotOfItsOwn() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        _finalise(job, _tally(0, RIGHT, RIGHT, WRONG));
        uint256 from = block.timestamp;
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.BlockToCome.selector, block.number + 1));
        _lease(dave, job, 0);
        address late = makeAddr("late");
        _join(late, 10 * STAKE);
        uint256 opened = block.number;
        _nextBlocks();
        vm.setBlockhash(opened + 1, SALT);
        assertEq(replicas.opensAt(job, 0, late), from + WIDEN);
        uint256 seed = uint256(SALT) % (1 << 64);
        if (seed % 2 == 0) ++seed;
        uint256 lot = uint256(keccak256(abi.encode(seed, replicas.jobIdOf(job), uint256(0), opened, dave))) % (1 << 64);
        uint256 at = from + lot * WIDEN * MIN_STAKE / STAKE / (1 << 64);
        assertEq(replicas.opensAt(job, 0, dave), at);
        vm.warp(at - 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotDrawnYet.selector, 0, at));
        _lease(dave, job, 0);
        vm.warp(at);
        _lease(dave, job, 0);
    }

    function test_anExtraRoundThatFindsNobody_isUndecided() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        Tally memory tally = _tally(0, RIGHT, RIGHT, WRONG);
        _finalise(job, tally);
        uint256 end = block.timestamp + 2 * LEASE;
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _finalise(job, tally);
        vm.warp(end + 1);
        _finalise(job, tally);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Undecided));
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_lockedStake(three[i]), 0);
            assertEq(_stake(three[i]), STAKE);
        }
    }

    function test_anExtraLeaseThatRunsOut_isExpiredBeforeTheEnd() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        Tally memory tally = _tally(0, RIGHT, RIGHT, WRONG);
        _finalise(job, tally);
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(dave, job, 0);
        vm.warp(_ballot(job, 0).time() + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.LeasesToExpire.selector, 0));
        _finalise(job, tally);
        _expire(job, 0, dave);
        _finalise(job, tally);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Undecided));
        assertEq(_stake(dave), STAKE - _worst(job.job, 4) * BOND_BPS / 10_000);
    }

    /// A commit of the first round binds in the next as well: whoever was late may still show it.
    function test_whoWasSilent_mayRevealInTheNextRound() public solvent {
        ReplicatedJob memory job = _replicated();
        job.assurance.target = 900_000_000;
        _open(job);
        _committedBy(job, 0, RIGHT, WRONG, RIGHT);
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, WRONG);
        vm.warp(block.timestamp + REVEAL + 1);
        _finalise(job, _tally(0, RIGHT, WRONG, 0));
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        // While commits are taken, roots stay as they are.
        uint256 end = _ballot(job, 0).time();
        _lease(dave, job, 0);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _reveal(carol, job, 0, RIGHT);
        _commit(dave, job, 0, RIGHT);
        _reveal(carol, job, 0, RIGHT);
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        address[] memory who = new address[](4);
        uint64[] memory fuels = new uint64[](4);
        (who[0], who[1], who[2], who[3]) = (alice, bob, carol, dave);
        (fuels[0], fuels[1], fuels[2]) = (RIGHT, WRONG, RIGHT);
        // 16 against 4: not enough, and the limit is five.
        _finalise(job, _tally(0, who, fuels));
        assertEq(_ballot(job, 0).wanted(), 5);
    }

    // Nobody reveals

    function test_nobodyReveals_startsAnewAndSlashesAll() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        uint256 deposit = _locked(requester);
        _setChecks(alice, 5);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        uint256 end = block.timestamp + REVEAL;
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _finalise(job, _tally(0, 0, 0, 0));
        vm.warp(end + 1);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BatchEnded(jobId, 0, BallotState.Open, 0, 0, 0, 0, Consent.None);
        _finalise(job, _tally(0, 0, 0, 0));
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_stake(three[i]), STAKE - _lockOf(job, 4));
            assertEq(_lockedStake(three[i]), 0);
            assertEq(_checks(three[i]), 0);
            assertEq(reputation.providerRecord(three[i]).failed, 1);
        }
        assertEq(escrow.burnable(), 3 * _lockOf(job, 4));
        assertEq(_locked(requester), deposit);
        assertEq(replicas.ballotOf(jobId, 0).openCount(), 3);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Done)
        );
        _lease(alice, job, 0);
        _leaseCommit(job, 0, dave, RIGHT);
        assertEq(_ballot(job, 0).committed(), 1);
        assertEq(_ballot(job, 0).wanted(), 3);
        assertEq(_ballot(job, 0).time(), block.timestamp + 2 * LEASE);
    }

    function test_nobodyReveals_whereNotAllCommitted_startsAnewAsWell() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _leaseCommit(job, 0, alice, RIGHT);
        uint256 end = block.timestamp + 2 * LEASE + REVEAL;
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _finalise(job, _tally(0, alice, 0));
        vm.warp(end + 1);
        _finalise(job, _tally(0, alice, 0));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Open));
        assertEq(_stake(alice), STAKE - _lockOf(job, 4));
    }

    function _leaseCommit(ReplicatedJob memory job, uint32 batch, address who, uint64 fuel) private {
        _lease(who, job, batch);
        _commit(who, job, batch, fuel);
    }

    /// A vote of two.
    function _leaseCommitReveal(ReplicatedJob memory job, uint32 batch, address a, address b, uint64 ofA, uint64 ofB)
        private
    {
        _leaseCommit(job, batch, a, ofA);
        _leaseCommit(job, batch, b, ofB);
        _reveal(a, job, batch, ofA);
        _reveal(b, job, batch, ofB);
    }

    function _wrongVotes(ReplicatedJob memory job, Tally memory tally) private {
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongVotes.selector, 0));
        _finalise(job, tally);
    }

    function _copy(Tally memory tally) private pure returns (Tally memory) {
        return abi.decode(abi.encode(tally), (Tally));
    }
}
