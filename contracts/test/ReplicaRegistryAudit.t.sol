// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BallotState, IReplicaRegistry, ReplicaState, ReplicatedJob} from "../interfaces/IReplicaRegistry.sol";
import {Ballot} from "../libraries/Ballots.sol";
import {ReplicaCases} from "./ReplicaCases.sol";

/// Rules 3 and 6: batches of which a lot sends some to one provider more than have committed.
contract ReplicaRegistryAuditTest is ReplicaCases {
    function test_whatIsNotDrawn_isRevealedAtOnceAndPaidWithoutRecord() public solvent {
        ReplicatedJob memory job = _committed();
        _setDraw(job, 0, false);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.Drawn(replicas.jobIdOf(job), 0, false);
        _reveal(alice, job, 0, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT));
        assertEq(_earned(alice), _price(job.job, RIGHT));
        assertEq(_checks(alice), 0);
        assertEq(escrow.burnable(), 0);
        assertEq(_available(requester), _cost(job, 4) - _price(job.job, RIGHT));
    }

    /// Rule 6: an early accept skips no audit, and makes no record.
    function test_accept_neitherSkipsTheDrawNorMakesARecord() public solvent {
        ReplicatedJob memory job = _committed();
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Drawing));
        _accept(job, _tally(0, alice, RIGHT));
        _setDraw(job, 0, false);
        _reveal(alice, job, 0, RIGHT);
        _accept(job, _tally(0, alice, RIGHT));
        assertEq(_earned(alice), _price(job.job, RIGHT));
        assertEq(_checks(alice), 0);
        assertEq(escrow.burnable(), 0);
    }

    function test_theDraw_waitsForTheBlockAfterTheCommit() public {
        ReplicatedJob memory job = _committed();
        bytes memory toCome = abi.encodeWithSelector(IReplicaRegistry.BlockToCome.selector, block.number + 1);
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(toCome);
            _reveal(alice, job, 0, RIGHT);
            vm.expectRevert(toCome);
            _draw(job, 0);
            vm.roll(block.number + 1);
        }
        _draw(job, 0);
    }

    function test_draw_ofWhatIsNotDrawn_leavesTheReveal() public solvent {
        ReplicatedJob memory job = _committed();
        uint256 end = block.timestamp + REVEAL;
        _setDraw(job, 0, false);
        _draw(job, 0);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Revealing));
        _draw(job, 0);
        assertEq(_ballot(job, 0).time(), end);
        vm.warp(end);
        _reveal(alice, job, 0, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT));
        assertEq(_earned(alice), _price(job.job, RIGHT));
    }

    function test_whatIsNotDrawnAndNotRevealed_losesTheStake() public solvent {
        ReplicatedJob memory job = _committed();
        uint256 lock = _lockedStake(alice);
        _setDraw(job, 0, false);
        uint256 end = block.timestamp + REVEAL;
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, end));
        _reveal(alice, job, 0, RIGHT);
        _draw(job, 0);
        _finalise(job, _tally(0, alice, 0));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Open));
        assertEq(_stake(alice), STAKE - lock);
    }

    function test_anAuditThatAgrees_paysBothAndIsACheckOfBoth() public solvent {
        ReplicatedJob memory job = _drawn();
        _audit(job, bob, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT, bob, RIGHT));
        uint256 price = _price(job.job, RIGHT);
        assertEq(_earned(alice), price);
        assertEq(_earned(bob), price);
        assertEq(_checks(alice), 1);
        assertEq(_checks(bob), 1);
        assertEq(escrow.burnable(), 2 * _fee(price));
    }

    /// Rule 3: nothing is public before the auditor has committed.
    function test_whatIsDrawn_isRevealedAfterTheAuditorsCommit() public solvent {
        ReplicatedJob memory job = _committed();
        _setDraw(job, 0, true);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Drawing));
        _reveal(alice, job, 0, RIGHT);
        _draw(job, 0);
        uint256 end = block.timestamp + 2 * LEASE;
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _reveal(alice, job, 0, RIGHT);
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(bob, job, 0);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _reveal(alice, job, 0, RIGHT);
        _commit(bob, job, 0, RIGHT);
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, RIGHT);
    }

    /// Rule 3: an auditor is drawn by a lot of its own, and is never the provider itself.
    function test_theAuditor_isDrawnAndIsAnother() public solvent {
        ReplicatedJob memory job = _committed();
        bytes32 jobId = replicas.jobIdOf(job);
        _setDraw(job, 0, true);
        uint32 end = uint32(block.timestamp) + 2 * LEASE;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.Drawn(jobId, 0, true);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.RoundOpened(jobId, 0, 2, end);
        _draw(job, 0);
        Ballot ballot = _ballot(job, 0);
        assertTrue(ballot.isDrawn());
        assertEq(uint8(ballot.state()), uint8(BallotState.Committing));
        assertEq(ballot.openedBlock(), block.number);
        assertEq(ballot.time(), end);
        uint256 from = block.timestamp;
        address late = makeAddr("late");
        _join(late, STAKE);
        _nextBlocks();
        assertEq(replicas.opensAt(job, 0, late), from + WIDEN);
        uint256 at = replicas.opensAt(job, 0, bob);
        assertLt(at, from + WIDEN);
        vm.warp(at - 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotDrawnYet.selector, 0, at));
        _lease(bob, job, 0);
        vm.warp(from + WIDEN);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Committed)
        );
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoFreeSlot.selector, 0));
        _lease(carol, job, 0);
    }

    function test_anAuditThatDisagrees_opensMoreRounds() public solvent {
        ReplicatedJob memory job = _drawn();
        _audit(job, bob, WRONG);
        _finalise(job, _tally(0, alice, RIGHT, bob, WRONG));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Committing));
        assertEq(_ballot(job, 0).wanted(), 3);
        assertEq(_stake(bob), STAKE);
    }

    /// Else who has a record would be caught by nobody who has none.
    function test_anAuditThatDisagrees_isJudgedWithoutRecords() public solvent {
        ReplicatedJob memory job = _drawn();
        _setChecks(bob, 200);
        _audit(job, bob, WRONG);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT, bob, WRONG));
        assertEq(_ballot(job, 0).wanted(), 3);
        assertEq(_stake(alice) + _stake(bob), 2 * STAKE);
    }

    /// One in which all agree is as good as their records say.
    function test_anAuditThatAgrees_isJudgedWithRecords() public solvent {
        ReplicatedJob memory job = _audited();
        job.assurance.target = 995_000_000;
        _open(job);
        // 496 / 497, of a newcomer and one that passed 25 checks; two newcomers have 16 / 17.
        _setChecks(bob, 25);
        _lease(alice, job, 0);
        _commit(alice, job, 0, RIGHT);
        _setDraw(job, 0, true);
        _draw(job, 0);
        _audit(job, bob, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT, bob, RIGHT));
        assertEq(_earned(bob), _price(job.job, RIGHT));
    }

    /// Rule 3: whoever was drawn cannot help it that nobody came; but it is no check.
    function test_anAuditThatFindsNobody_paysWithoutRecord() public solvent {
        ReplicatedJob memory job = _drawn();
        uint256 end = _ballot(job, 0).time();
        vm.warp(end + 1);
        _reveal(alice, job, 0, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT));
        assertEq(_earned(alice), _price(job.job, RIGHT));
        assertEq(_checks(alice), 0);
        assertEq(escrow.burnable(), 0);
    }

    function test_anAuditThatFindsNobody_isNoReasonToStaySilent() public solvent {
        ReplicatedJob memory job = _drawn();
        uint256 lock = _lockedStake(alice);
        uint256 end = _ballot(job, 0).time() + REVEAL;
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, end));
        _reveal(alice, job, 0, RIGHT);
        _finalise(job, _tally(0, alice, 0));
        assertEq(_stake(alice), STAKE - lock);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Open));
        assertFalse(_ballot(job, 0).isDrawn());
    }

    /// A liar that was drawn does not get away by silence: the auditor's vote goes on without it.
    function test_silenceInAnAudit_isDissent() public solvent {
        ReplicatedJob memory job = _drawn();
        uint256 lock = _lockedStake(alice);
        _setChecks(bob, 20);
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(bob, job, 0);
        _commit(bob, job, 0, RIGHT);
        _reveal(bob, job, 0, RIGHT);
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        _finalise(job, _tally(0, alice, 0, bob, RIGHT));
        assertEq(_stake(alice), STAKE - lock);
        assertEq(_earned(bob), _price(job.job, RIGHT));
    }

    function test_aDrawPastReading_isAnAudit() public solvent {
        ReplicatedJob memory job = _committed();
        // More blocks than `blockhash` reaches, and no history contract.
        vm.roll(block.number + 258);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Drawing));
        _reveal(alice, job, 0, RIGHT);
        _draw(job, 0);
        assertTrue(_ballot(job, 0).isDrawn());
        _audit(job, bob, RIGHT);
    }

    function testFuzz_theDraw_isTheBlocksHashJobAndBatchByTheShare(bytes32 hash, uint16 share) public {
        vm.assume(hash != 0);
        ReplicatedJob memory job = _audited();
        job.assurance.auditBps = uint16(bound(share, 1, 9999));
        bytes32 jobId = _open(job);
        _lease(alice, job, 1);
        _commit(alice, job, 1, RIGHT);
        _nextBlocks();
        vm.setBlockhash(block.number - 1, hash);
        _draw(job, 1);
        uint256 lot = uint256(keccak256(abi.encode(hash, jobId, uint256(1)))) % 10_000;
        assertEq(_ballot(job, 1).isDrawn(), lot < job.assurance.auditBps);
    }

    /// Of 10,000 lots as many as the share says: from 0 up to one below it.
    function test_theDraw_leavesOutALotThatIsTheShare() public {
        ReplicatedJob memory job = _audited();
        bytes32 jobId = _open(job);
        for (uint32 batch = 0; batch < 2; ++batch) {
            _lease(alice, job, batch);
            _commit(alice, job, batch, RIGHT);
            _nextBlocks();
            bytes32 hash;
            uint256 lot = uint256(job.assurance.auditBps) - batch;
            for (uint256 i = 1; uint256(keccak256(abi.encode(hash, jobId, batch))) % 10_000 != lot; ++i) {
                hash = bytes32(i);
            }
            vm.setBlockhash(block.number - 1, hash);
            _draw(job, batch);
            assertEq(_ballot(job, batch).isDrawn(), batch == 1);
        }
    }

    function test_everyBatchIsAudited_atAShareOfOne() public {
        ReplicatedJob memory job = _audited();
        job.assurance.auditBps = 10_000;
        _open(job);
        for (uint32 batch = 0; batch < 3; ++batch) {
            _lease(alice, job, batch);
            _commit(alice, job, batch, RIGHT);
        }
        _nextBlocks();
        for (uint32 batch = 0; batch < 3; ++batch) {
            _draw(job, batch);
            assertTrue(_ballot(job, batch).isDrawn());
        }
    }

    // Of several replicas

    /// Two that agree know before they commit that nobody else holds the batch, but not whether somebody will.
    function test_aVote_isDrawnOnceAllHaveCommitted() public solvent {
        ReplicatedJob memory job = _pair();
        _open(job);
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        _commit(alice, job, 0, RIGHT);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Committing));
        vm.roll(block.number + 5);
        _commit(bob, job, 0, RIGHT);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Drawing));
        assertEq(_ballot(job, 0).lastCommitBlock(), block.number);
        // The block after the last commit decides, whoever reveals.
        vm.roll(block.number + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.BlockToCome.selector, block.number));
        _reveal(alice, job, 0, RIGHT);
        vm.roll(block.number - 1);
        _setDraw(job, 0, false);
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT, bob, RIGHT));
        assertEq(_earned(alice) + _earned(bob), 2 * _price(job.job, RIGHT));
    }

    /// A ring that holds all of a batch and lies, with records that would outweigh anybody's: found by the share that is audited.
    function test_aRingThatHoldsAllVotes_isFoundByAnAudit() public solvent {
        ReplicatedJob memory job = _pair();
        _open(job);
        _setChecks(alice, 200);
        _setChecks(bob, 200);
        _committedPair(job, WRONG);
        _setDraw(job, 0, true);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Drawing));
        _reveal(alice, job, 0, WRONG);
        _draw(job, 0);
        assertEq(_ballot(job, 0).wanted(), 3);
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(carol, job, 0);
        _commit(carol, job, 0, RIGHT);
        // Nothing was public, so that this round is drawn no more, and its reveals need no opening.
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Revealing));
        _reveal(alice, job, 0, WRONG);
        _reveal(bob, job, 0, WRONG);
        _reveal(carol, job, 0, RIGHT);
        // By record they would be believed, 999 x 999 to 4.
        _finalise(job, _tally(0, WRONG, WRONG, RIGHT));
        assertEq(_ballot(job, 0).wanted(), 4);
        assertEq(_stake(alice) + _stake(bob) + _stake(carol), 3 * STAKE);
    }

    /// Else a ring would leave a slot empty, and be sure of no audit: an experienced vote may be enough.
    function test_aFirstRoundThatLacksCommits_isAudited() public solvent {
        ReplicatedJob memory job = _pair();
        bytes32 jobId = _open(job);
        _setChecks(alice, 200);
        _lease(alice, job, 0);
        _commit(alice, job, 0, RIGHT);
        uint256 end = _ballot(job, 0).time();
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _draw(job, 0);
        vm.warp(end + 1);
        bytes memory undrawn = abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Committing);
        vm.expectRevert(undrawn);
        _reveal(alice, job, 0, RIGHT);
        vm.expectRevert(undrawn);
        _finalise(job, _tally(0, alice, 0));
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.Drawn(jobId, 0, true);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.RoundOpened(jobId, 0, 2, uint32(block.timestamp) + 2 * LEASE);
        _draw(job, 0);
        // Once: to this round nobody has come.
        vm.warp(block.timestamp + 2 * LEASE + 1);
        vm.expectRevert(undrawn);
        _draw(job, 0);
        _reveal(alice, job, 0, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT));
        assertEq(_earned(alice), _price(job.job, RIGHT));
    }

    function test_aFirstRoundWhoseLeasesRanOut_isDrawnOnceTheyAreExpired() public solvent {
        ReplicatedJob memory job = _pair();
        _open(job);
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        _commit(alice, job, 0, RIGHT);
        vm.warp(_ballot(job, 0).time() + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.LeasesToExpire.selector, 0));
        _draw(job, 0);
        _expire(job, 0, bob);
        _draw(job, 0);
        assertEq(_ballot(job, 0).wanted(), 2);
    }

    /// Extra rounds are there because results are public: they decide, and no lot.
    function test_anExtraRound_isNotDrawn() public solvent {
        ReplicatedJob memory job = _pair();
        _open(job);
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        _commit(alice, job, 0, RIGHT);
        _commit(bob, job, 0, WRONG);
        _setDraw(job, 0, false);
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, WRONG);
        _finalise(job, _tally(0, alice, RIGHT, bob, WRONG));
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(carol, job, 0);
        _commit(carol, job, 0, RIGHT);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Revealing));
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Revealing));
        _draw(job, 0);
    }

    /// Two replicas, of which half get a third, and more while undecided.
    function _pair() private view returns (ReplicatedJob memory job) {
        job = _audited();
        (job.assurance.replicas, job.assurance.limit) = (2, 5);
    }

    /// Alice and Bob have committed to the same.
    function _committedPair(ReplicatedJob memory job, uint64 fuel) private {
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        _commit(alice, job, 0, fuel);
        _commit(bob, job, 0, fuel);
    }

    /// Alice has committed to batch 0.
    function _committed() private returns (ReplicatedJob memory job) {
        job = _audited();
        _open(job);
        _lease(alice, job, 0);
        _commit(alice, job, 0, RIGHT);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Drawing));
    }

    /// And was drawn.
    function _drawn() private returns (ReplicatedJob memory job) {
        job = _committed();
        _setDraw(job, 0, true);
        _draw(job, 0);
    }

    /// `auditor` leases and commits, and both reveal.
    function _audit(ReplicatedJob memory job, address auditor, uint64 fuel) private {
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(auditor, job, 0);
        _commit(auditor, job, 0, fuel);
        _reveal(alice, job, 0, RIGHT);
        _reveal(auditor, job, 0, fuel);
    }
}
