// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CaseState, IDisputes, Standing, Verdict} from "../interfaces/IDisputes.sol";
import {Consent} from "../interfaces/IEscrow.sol";
import {BallotState, IReplicaRegistry, ReplicatedJob, ReplicaState, Tally} from "../interfaces/IReplicaRegistry.sol";
import {DisputeFixture} from "./DisputeFixture.sol";

/// Challenges and demands about results that were voted on.
contract DisputesVoteTest is DisputeFixture {
    uint64 private constant A = 2e9;
    uint64 private constant B = 3e9;

    ReplicatedJob private job;
    bytes32 private id;
    uint256 private wealth;
    uint256 private lock;

    function setUp() public override {
        super.setUp();
        wealth = _wealth(requester);
        job = _replicated();
        // Two newcomers that agree outvote a third: 16/21.
        job.assurance.target = 700_000_000;
        id = _open(job);
        lock = replicas.leaseLock(job, 0);
        assertEq(lock, _lockOf(job.job, 4));
    }

    // Freezing

    function test_challenge_describesTheResultOfTheVote() public conserved {
        Tally memory tally = _vote(A, A, B);
        Standing memory about = _describe(A);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BatchFrozen(id, 0);
        bytes32 caseId = _challenge(dave, job, tally, 3);
        assertEq(arbiter.standing(), _resultOf(about));
        assertEq(disputes.caseOf(caseId).result, _resultOf(about));
        assertEq(disputes.caseOf(caseId).deadline, about.finalAt + RULING);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Frozen));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NoSuchTask.selector, 4, 0, 4));
        _challenge(dave, job, tally, 4);
    }

    function test_frozenBallot_isNeitherPaidNorJoined() public conserved {
        Tally memory tally = _vote(A, A, A);
        uint256 finalAt = block.timestamp + WINDOW;
        _challenge(dave, job, tally, 0);
        bytes memory refusal = abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Frozen);
        vm.expectRevert(refusal);
        vm.prank(requester);
        replicas.accept(job, _one(tally));
        vm.warp(finalAt + RULING);
        vm.expectRevert(refusal);
        _finalise(job, tally);
        _register(dave, STAKE);
        vm.expectRevert(refusal);
        _lease(dave, job, 0);
    }

    function test_challenge_isForTheWindowOnly() public conserved {
        Tally memory tally = _vote(A, A, B);
        uint256 finalAt = block.timestamp + WINDOW;
        vm.warp(finalAt);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, finalAt));
        _challenge(dave, job, tally, 0);
        vm.warp(finalAt - 1);
        _challenge(dave, job, tally, 0);
        vm.warp(finalAt);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, finalAt));
        _challenge(erin, job, tally, 0);
    }

    /// While votes may still come in, there is no result. Who never reveals does not take the window away.
    function test_challenge_waitsForTheRevealsAndHasTheWholeWindowThen() public conserved {
        _committedBy(job, 0, A, A, A);
        uint256 end = block.timestamp + REVEAL;
        _reveal(alice, job, 0, A);
        _reveal(bob, job, 0, A);
        Tally memory tally = _tally(0, A, A, 0);
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _challenge(dave, job, tally, 0);
        vm.warp(end + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, end + WINDOW));
        _challenge(dave, job, tally, 0);
        vm.warp(end + WINDOW - 1);
        _challenge(dave, job, tally, 0);
    }

    function test_challenge_needsAnAcceptedResultAndAllItsVotes() public conserved {
        Tally memory tally = _vote(A, B, 1e9);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotAccepted.selector, 0));
        _challenge(dave, job, tally, 0);
        bytes memory refusal = abi.encodeWithSelector(IReplicaRegistry.WrongVotes.selector, 0);
        // Votes as they were not cast, which would be accepted.
        vm.expectRevert(refusal);
        _challenge(dave, job, _tally(0, A, A, A), 0);
        // The same, once it is frozen.
        ReplicatedJob memory other = _other();
        _voted(other, 0, A, A, B);
        _challenge(dave, other, _tally(0, A, A, B), 0);
        vm.expectRevert(refusal);
        _challenge(erin, other, _tally(0, B, B, A), 0);
    }

    // Stands

    function test_resultThatStands_isPaidAsIfNeverChallenged() public conserved {
        Tally memory tally = _vote(A, A, A);
        uint256 finalAt = block.timestamp + WINDOW;
        bytes32 caseId = _challenge(dave, job, tally, 0);
        _rule(caseId, false);
        vm.warp(finalAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooEarly.selector, finalAt));
        _resolve(job, tally);
        vm.warp(finalAt);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BatchResolved(id, 0, Verdict.Stands);
        _resolve(job, tally);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, finalAt));
        _challenge(erin, job, tally, 0);
        _finalise(job, tally);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_earned(three[i]), _price(job.job, A));
            assertEq(_lockedStake(three[i]), 0);
            assertEq(reputation.providerRecord(three[i]).checks, 1);
        }
    }

    /// The end of the window of a ballot that was not fully revealed is computed, not stored: a dispute must not move it.
    function test_resultThatStandsWithoutAllReveals_isPaidAtOnceAndOnce() public conserved {
        _committedBy(job, 0, A, A, A);
        _reveal(alice, job, 0, A);
        _reveal(bob, job, 0, A);
        Tally memory tally = _tally(0, A, A, 0);
        uint256 finalAt = block.timestamp + REVEAL + WINDOW;
        vm.warp(finalAt - 1);
        bytes32 caseId = _challenge(dave, job, tally, 0);
        vm.warp(finalAt + RULING + 1);
        _resolve(job, tally);
        assertEq(_claim(caseId), CHALLENGE_BOND);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.TooLate.selector, finalAt));
        _challenge(erin, job, tally, 0);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, finalAt - WINDOW));
        _reveal(carol, job, 0, A);
        _finalise(job, tally);
        assertEq(_earned(alice), _price(job.job, A));
        assertEq(escrow.balanceOf(carol).stake, STAKE - lock, "rule 5");
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Settled));
        _finalise(job, tally);
    }

    // Wrong

    function test_wrongResult_costsAllThatAgreedAndFreesWhoDissented() public conserved {
        _giveChecks(3);
        Tally memory tally = _vote(A, A, B);
        uint256 finalAt = block.timestamp + WINDOW;
        bytes32 first = _challenge(dave, job, tally, 0);
        bytes32 second = _challenge(erin, job, tally, 0);
        _rule(first, true);
        _rule(second, true);
        vm.warp(finalAt);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BatchResolved(id, 0, Verdict.Wrong);
        uint256 refund = _costOf(4);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BatchEnded(id, 0, BallotState.Overturned, _result(0, A).root, A, refund, 0, Consent.None);
        _resolve(job, tally);
        assertEq(escrow.balanceOf(alice).stake, STAKE - lock);
        assertEq(escrow.balanceOf(bob).stake, STAKE - lock);
        assertEq(escrow.balanceOf(carol).stake, STAKE);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_lockedStake(three[i]) + _earned(three[i]), 0);
            bool wrong = three[i] != carol;
            assertEq(reputation.providerRecord(three[i]).failed, wrong ? 1 : 0);
            assertEq(reputation.providerRecord(three[i]).checks, wrong ? 0 : 3, "to be right alone is no check");
        }
        assertEq(_wealth(requester), wealth, "refunded whole");
        uint256 award = 2 * (lock / 2);
        assertEq(_claim(first), CHALLENGE_BOND + award / 2);
        assertEq(_claim(second), CHALLENGE_BOND + award / 2);
        assertEq(escrow.burnable(), 2 * lock - award);
    }

    function test_overturnedBatch_isFinal() public conserved {
        Tally memory tally = _overturned();
        bytes memory refusal = abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Overturned);
        vm.expectRevert(refusal);
        _resolve(job, tally);
        vm.expectRevert(refusal);
        _finalise(job, tally);
        vm.expectRevert(refusal);
        _challenge(erin, job, tally, 0);
        _register(dave, STAKE);
        vm.expectRevert(refusal);
        _lease(dave, job, 0);
        assertEq(_locked(requester), _costOf(4) + _costOf(2), "the other batches'");
        vm.prank(requester);
        replicas.cancel(job);
        assertEq(_locked(requester), 0);
    }

    /// Rule 5: who never revealed fares no better than who was wrong.
    function test_wrongResult_costsWhoNeverRevealedAsWell() public conserved {
        _committedBy(job, 0, A, A, B);
        _reveal(alice, job, 0, A);
        _reveal(bob, job, 0, A);
        Tally memory tally = _tally(0, A, A, 0);
        vm.warp(block.timestamp + REVEAL + 1);
        bytes32 caseId = _challenge(dave, job, tally, 0);
        _rule(caseId, true);
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, tally);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(escrow.balanceOf(three[i]).stake, STAKE - lock);
            assertEq(_lockedStake(three[i]), 0);
        }
        uint256 award = 2 * (lock / 2);
        assertEq(_claim(caseId), CHALLENGE_BOND + award, "half of the stakes of those that agreed");
        assertEq(escrow.burnable(), 3 * lock - award);
        assertEq(_wealth(requester), wealth);
    }

    function test_wrongResult_ofACancelledJobIsRefundedToo() public conserved {
        Tally memory tally = _vote(A, A, A);
        _rule(_challenge(dave, job, tally, 0), true);
        vm.prank(requester);
        replicas.cancel(job);
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, tally);
        assertEq(_locked(requester), 0);
        // Posting a sorted job again has its price (rule 7): the fee of the two open batches.
        assertEq(_wealth(requester), wealth - (_costOf(4) + _costOf(2)) * FEE_BPS / 10_000);
    }

    function test_disputes_ofTwoBatchesAreApart() public conserved {
        _voted(job, 1, A, A, A);
        Tally memory tally = _vote(A, A, A);
        Tally memory its = _tally(1, A, A, A);
        _rule(_challenge(dave, job, tally, 0), true);
        bytes32 denied = _challenge(dave, job, its, 4);
        _rule(denied, false);
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, tally);
        _resolve(job, its);
        _finalise(job, its);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Overturned));
        assertEq(uint8(_stateOf(job, 1)), uint8(BallotState.Settled));
        assertEq(_earned(alice), _price(job.job, A));
        assertEq(escrow.balanceOf(alice).stake, STAKE - lock);
    }

    // Withheld

    function test_unansweredDemand_freesAllAndMarksThoseThatAgreed() public conserved {
        _giveChecks(3);
        Tally memory tally = _vote(A, A, B);
        bytes32 caseId = _demand(job, tally, 2, 0);
        _passDeadline(_describe(A));
        _resolve(job, tally);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Overturned));
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(escrow.balanceOf(three[i]).stake, STAKE);
            assertEq(_lockedStake(three[i]) + _earned(three[i]), 0);
            assertEq(reputation.providerRecord(three[i]).withheld, three[i] == carol ? 0 : 1);
            assertEq(reputation.providerRecord(three[i]).checks, 3);
        }
        assertEq(_claim(caseId), DEMAND_BOND);
        assertEq(_wealth(requester), wealth);
    }

    function test_demand_isForTheRequesterOnly() public conserved {
        Tally memory tally = _vote(A, A, A);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotRequester.selector, alice, requester));
        vm.prank(alice);
        disputes.demand(address(replicas), abi.encode(job, tally), 0, 0, _noPermit());
    }

    // Access

    function test_freeze_isForDisputesOnly() public conserved {
        Tally memory tally = _vote(A, A, A);
        address[5] memory others = [stranger, requester, alice, address(arbiter), address(jobs)];
        for (uint256 i = 0; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotDisputes.selector, others[i]));
            vm.prank(others[i]);
            replicas.freeze(job, tally);
        }
    }

    function test_resolve_needsAFrozenBallot() public conserved {
        Tally memory tally = _vote(A, A, A);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Revealing));
        _resolve(job, tally);
        _challenge(dave, job, tally, 0);
        vm.warp(block.timestamp + WINDOW + RULING + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongVotes.selector, 0));
        _resolve(job, _tally(0, A, A, B));
        _resolve(job, tally);
    }

    /// The votes that are given as one registry's are not the other's.
    function test_standing_ofOneRegistryIsNothingToTheOther() public conserved {
        Tally memory tally = _vote(A, A, A);
        vm.expectRevert();
        vm.prank(dave);
        disputes.challenge(address(jobs), abi.encode(job, tally), 0, PROOF, _noPermit());
    }

    function _vote(uint64 ofAlice, uint64 ofBob, uint64 ofCarol) private returns (Tally memory) {
        _voted(job, 0, ofAlice, ofBob, ofCarol);
        return _tally(0, ofAlice, ofBob, ofCarol);
    }

    function _overturned() private returns (Tally memory tally) {
        tally = _vote(A, A, A);
        _rule(_challenge(dave, job, tally, 0), true);
        vm.warp(block.timestamp + WINDOW);
        _resolve(job, tally);
    }

    /// The result of batch 0 that was revealed just now.
    function _describe(uint64 fuel) private view returns (Standing memory) {
        return Standing(id, 0, requester, _result(0, fuel).root, fuel, 0, 4, uint32(block.timestamp) + WINDOW);
    }

    /// Deposit for a batch of so many tasks: five executions and the fee.
    function _costOf(uint256 tasks) private view returns (uint256) {
        uint256 worst = 5 * _worst(job.job, tasks);
        return worst + (worst * FEE_BPS + 9999) / 10_000;
    }

    function _giveChecks(uint256 count) private {
        for (uint256 i = 0; i < 3; ++i) {
            _passChecks(three[i], count);
        }
    }

    function _other() private returns (ReplicatedJob memory other) {
        other = _replicated();
        (other.job.nonce, other.assurance.target) = (2, 700_000_000);
        _open(other);
    }
}
