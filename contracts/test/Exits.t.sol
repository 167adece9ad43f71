// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputes} from "../interfaces/IDisputes.sol";
import {BatchState, IJobRegistry, Job, Submission} from "../interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {BallotState, IReplicaRegistry, ReplicatedJob, Tally} from "../interfaces/IReplicaRegistry.sol";
import {DisputeFixture} from "./DisputeFixture.sol";

/// The table of README.md, "The way out of every state": each call is refused a second before the time that the table names, and works
/// at it, for whoever the table says. What only that party may call is called by it, the rest by a stranger; nobody else does anything.
contract ExitsTest is DisputeFixture {
    uint256 private start;

    // The requester's deposit

    function test_open_isCancelledAtOnce() public conserved {
        (Job memory job,) = _posted();
        uint256 deposit = _locked(requester);
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_available(requester), deposit);
        ReplicatedJob memory sorted = _replicated();
        _open(sorted);
        uint256 cost = _locked(requester);
        vm.prank(requester);
        replicas.cancel(sorted);
        assertEq(_available(requester), cost - cost * FEE_BPS / 10_000);
    }

    function test_open_isAmendedAtOnce() public conserved {
        (Job memory job,) = _posted();
        Job memory terms = _job();
        terms.nonce = 2;
        (terms.startPrice, terms.maxPrice) = (terms.startPrice / 2, terms.maxPrice / 2);
        uint256 deposit = _locked(requester);
        vm.prank(requester);
        jobs.amend(job, terms, _noPermit());
        assertEq(_locked(requester) + _available(requester), deposit);
        assertEq(_locked(requester), rules.depositOf(terms, _spec()));
    }

    function test_leased_isCancelled_andExpiresALeaseLater() public conserved {
        (Job memory job,) = _posted();
        uint256 deposit = _locked(requester);
        _lease(alice, job, _list(0, 1, 2));
        start = block.timestamp;
        vm.prank(requester);
        jobs.cancel(job);
        assertEq(_available(requester), 0);
        _firstAt(start + LEASE + 1, address(jobs), abi.encodeCall(IJobRegistry.expire, (job, _list(0, 1, 2))));
        assertEq(_available(requester), deposit);
    }

    function test_leased_aLateResultIsFinal_aWindowAfterIt() public conserved {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        // As long as nobody minds.
        vm.warp(block.timestamp + 10 * LEASE);
        _submit(alice, job, 0, RIGHT);
        bytes memory data = abi.encodeCall(IJobRegistry.finalise, (job, _submissions(alice, job, 0, RIGHT)));
        _firstAt(block.timestamp + WINDOW, address(jobs), data);
        assertEq(_earned(alice), _price(job, RIGHT));
    }

    function test_submitted_isAcceptedAtOnce_orFinalAWindowLater() public conserved {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0, 1));
        _submit(alice, job, 0, RIGHT);
        _submit(alice, job, 1, RIGHT);
        vm.prank(requester);
        jobs.accept(job, _submissions(alice, job, 0, RIGHT));
        bytes memory data = abi.encodeCall(IJobRegistry.finalise, (job, _submissions(alice, job, 1, RIGHT)));
        _firstAt(block.timestamp + WINDOW, address(jobs), data);
        assertEq(_earned(alice), 2 * _price(job, RIGHT));
        assertEq(_lockedStake(alice), 0);
    }

    /// Two hold slots, the second to the end of the round; one has committed.
    function test_committing_endsTwoLeasesAfterTheFirst() public conserved {
        ReplicatedJob memory job = _lenient();
        start = block.timestamp;
        _lease(alice, job, 0);
        _commit(alice, job, 0, RIGHT);
        _lease(bob, job, 0);
        vm.warp(start + 2 * LEASE);
        _lease(carol, job, 0);
        vm.warp(start + LEASE);
        _firstAt(start + LEASE + 1, address(replicas), abi.encodeCall(IReplicaRegistry.expire, (job, 0, bob)));
        _firstAt(start + 2 * LEASE + 1, address(replicas), abi.encodeCall(IReplicaRegistry.expire, (job, 0, carol)));
        // Who has committed shows it, and is paid: here one newcomer is believed.
        _reveal(alice, job, 0, RIGHT);
        uint256 revealed = block.timestamp;
        bytes memory data = _finaliseCall(job, _tallyOfAlice(RIGHT));
        _firstAt(revealed + WINDOW, address(replicas), data);
        assertEq(_earned(alice), _price(job.job, RIGHT));
    }

    /// Nobody has committed: it is open again, or cancelled, with the last lease.
    function test_committing_withoutCommits_isCancelledWithTheLastLease() public conserved {
        ReplicatedJob memory job = _lenient();
        start = block.timestamp;
        _lease(alice, job, 0);
        vm.prank(requester);
        replicas.cancel(job);
        uint256 cost = _locked(requester);
        _firstAt(start + LEASE + 1, address(replicas), abi.encodeCall(IReplicaRegistry.expire, (job, 0, alice)));
        assertEq(_locked(requester), 0);
        assertGe(_available(requester), cost - cost * FEE_BPS / 10_000);
    }

    /// An extra round to which nobody comes.
    function test_committing_anExtraRound_endsTwoLeasesAfterItOpens() public conserved {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        // No group believed: at once.
        _finalise(job, _tally(0, RIGHT, RIGHT, WRONG));
        start = block.timestamp;
        _firstAt(start + 2 * LEASE + 1, address(replicas), _finaliseCall(job, _tally(0, RIGHT, RIGHT, WRONG)));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Undecided));
        assertEq(_lockedStake(alice) + _lockedStake(bob) + _lockedStake(carol), 0);
    }

    function test_drawing_isDrawnInTheSecondBlock() public conserved {
        ReplicatedJob memory job = _audited();
        _open(job);
        _lease(alice, job, 0);
        _commit(alice, job, 0, RIGHT);
        vm.roll(block.number + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.BlockToCome.selector, block.number));
        replicas.draw(job, 0);
        vm.roll(block.number + 1);
        replicas.draw(job, 0);
        assertTrue(_stateOf(job, 0) != BallotState.Drawing);
    }

    /// A first round that lacks commits is drawn when it is over, and no sooner; nothing of it is final or shown before.
    function test_committing_aFirstRoundThatLacksCommits_isDrawnTwoLeasesAfterItsFirstLease() public conserved {
        ReplicatedJob memory job = _replicated();
        (job.assurance.target, job.assurance.auditBps) = (700_000_000, 1);
        _open(job);
        start = block.timestamp;
        _lease(alice, job, 0);
        _commit(alice, job, 0, RIGHT);
        _firstAt(start + 2 * LEASE + 1, address(replicas), abi.encodeCall(IReplicaRegistry.draw, (job, 0)));
        start = block.timestamp;
        // Nobody comes.
        vm.warp(start + 2 * LEASE + 1);
        _reveal(alice, job, 0, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tallyOfAlice(RIGHT));
        assertEq(_lockedStake(alice), 0);
    }

    function test_revealing_someSilent_isFinalTheTimeToRevealAndAWindowAfterTheLastCommit() public conserved {
        ReplicatedJob memory job = _lenient();
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        start = block.timestamp;
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, RIGHT);
        _firstAt(start + REVEAL + WINDOW, address(replicas), _finaliseCall(job, _tally(0, RIGHT, RIGHT, 0)));
        assertEq(_earned(alice), _price(job.job, RIGHT));
        assertEq(_lockedStake(alice) + _lockedStake(bob) + _lockedStake(carol), 0);
    }

    /// The same where two have committed by the end of the round, and one of them keeps silent.
    function test_revealing_someSilent_isFinalThatLongAfterTheEndOfTheRound() public conserved {
        ReplicatedJob memory job = _replicated();
        job.assurance.target = 700_000_000;
        _open(job);
        start = block.timestamp;
        for (uint256 i = 0; i < 2; ++i) {
            _lease(three[i], job, 0);
            _commit(three[i], job, 0, RIGHT);
        }
        _firstRevealAt(start + 2 * LEASE + 1, job);
        address[] memory who = new address[](2);
        uint64[] memory fuels = new uint64[](2);
        (who[0], who[1], fuels[0]) = (alice, bob, RIGHT);
        bytes memory data = _finaliseCall(job, _tally(0, who, fuels));
        _firstAt(start + 2 * LEASE + REVEAL + WINDOW, address(replicas), data);
        assertEq(_earned(alice), _price(job.job, RIGHT));
    }

    /// And where those that revealed are not believed: one more round, or the end, a second after the time to reveal.
    function test_revealing_someSilent_notBelieved_goesOnAfterTheTimeToReveal() public conserved {
        ReplicatedJob memory job = _replicated();
        job.assurance.limit = 3;
        _open(job);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        start = block.timestamp;
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, RIGHT);
        _firstAt(start + REVEAL + 1, address(replicas), _finaliseCall(job, _tally(0, RIGHT, RIGHT, 0)));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Undecided));
    }

    function test_revealing_allRevealed_isAcceptedAtOnce_orFinalAWindowLater() public conserved {
        ReplicatedJob memory job = _lenient();
        _voted(job, 0, RIGHT, RIGHT, RIGHT);
        _voted(job, 1, RIGHT, RIGHT, RIGHT);
        vm.prank(requester);
        replicas.accept(job, _one(_tally(0, RIGHT, RIGHT, RIGHT)));
        bytes memory data = _finaliseCall(job, _tally(1, RIGHT, RIGHT, RIGHT));
        _firstAt(block.timestamp + WINDOW, address(replicas), data);
        assertEq(_earned(alice), 2 * _price(job.job, RIGHT));
        assertEq(_lockedStake(alice), 0);
    }

    /// A challenge that nobody rules, and a demand at the end of the window that nobody answers.
    function test_frozen_isResolvedAfterTheLaterDeadline_andBondsComeBack() public conserved {
        (Job memory job,) = _posted();
        Submission memory given = _submitted(alice, job, 0, RIGHT);
        uint256 finalAt = block.timestamp + WINDOW;
        bytes32 challenged = _challenge(dave, job, given, 0);
        vm.warp(finalAt - 1);
        bytes32 demanded = _demand(job, given, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.NotConcluded.selector, demanded));
        disputes.claim(demanded);
        _firstAt(finalAt + RULING + 1, address(jobs), abi.encodeCall(IJobRegistry.resolve, (job, given)));
        assertEq(disputes.claim(challenged), CHALLENGE_BOND);
        assertEq(disputes.claim(demanded), DEMAND_BOND);
        // Withheld: it is open again.
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Open));
        assertEq(_lockedStake(alice), 0);
    }

    /// Demands alone: the later of the window's end and the time to answer.
    function test_frozen_byADemand_isResolvedAfterTheTimeToAnswer() public conserved {
        ReplicatedJob memory job = _lenient();
        _voted(job, 0, RIGHT, RIGHT, RIGHT);
        vm.warp(block.timestamp + WINDOW - 1);
        _demand(job, _tally(0, RIGHT, RIGHT, RIGHT), 0, 0);
        bytes memory data = abi.encodeCall(IReplicaRegistry.resolve, (job, _tally(0, RIGHT, RIGHT, RIGHT)));
        _firstAt(block.timestamp + DEMAND + 1, address(replicas), data);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Overturned));
        assertEq(_lockedStake(alice) + _lockedStake(bob) + _lockedStake(carol), 0);
    }

    // A provider's stake

    function test_leased_isReleasedInTheFirstQuarter() public conserved {
        (Job memory job,) = _posted();
        ReplicatedJob memory voted = _lenient();
        _lease(alice, job, _list(0, 1));
        _lease(alice, voted, 0);
        _lease(alice, voted, 1);
        start = block.timestamp;
        vm.warp(start + LEASE / 4);
        vm.startPrank(alice);
        jobs.release(job, _list(0));
        replicas.release(voted, _list(0));
        vm.warp(start + LEASE / 4 + 1);
        vm.expectRevert(abi.encodeWithSelector(IJobRegistry.TooLateToRelease.selector, 1));
        jobs.release(job, _list(1));
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 1, start + LEASE / 4));
        replicas.release(voted, _list(1));
        vm.stopPrank();
        assertEq(escrow.balanceOf(alice).stake, STAKE);
        assertEq(_lockedStake(alice), jobs.leaseLock(job, 1) + replicas.leaseLock(voted, 1));
    }

    function test_leased_cannotFinish_expiresItselfForTheBond() public conserved {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        start = block.timestamp;
        _firstAt(start + LEASE + 1, address(jobs), abi.encodeCall(IJobRegistry.expire, (job, _list(0))));
        assertEq(escrow.balanceOf(alice).stake, STAKE - _worst(job, 4) * BOND_BPS / 10_000);
        assertEq(_lockedStake(alice), 0);
    }

    function test_backup_isReleasedUntilItIsActive_orExpiresAfterTheRound() public conserved {
        ReplicatedJob memory job = _lenient();
        start = _straggling(job);
        vm.roll(block.number + SUCCESSOR_DELAY);
        uint256 before = vm.snapshotState();
        vm.prank(dave);
        replicas.release(job, _list(0));
        assertEq(_lockedStake(dave), 0);
        assertEq(escrow.balanceOf(dave).stake, STAKE);
        vm.revertToState(before);
        vm.roll(block.number + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, block.number - 1));
        vm.prank(dave);
        replicas.release(job, _list(0));
        _firstAt(start + 2 * LEASE + 1, address(replicas), abi.encodeCall(IReplicaRegistry.expire, (job, 0, dave)));
        assertEq(_lockedStake(dave), 0);
    }

    function test_beatenToTheSlot_isReleasedAtOnce() public conserved {
        ReplicatedJob memory job = _lenient();
        _straggling(job);
        vm.roll(block.number + SUCCESSOR_DELAY);
        _commit(dave, job, 0, RIGHT);
        uint256 held = _lockedStake(alice);
        vm.prank(alice);
        replicas.release(job, _list(0));
        assertEq(_lockedStake(alice), held - replicas.leaseLock(job, 0));
        assertEq(escrow.balanceOf(alice).stake, STAKE);
    }

    function test_successorThatIsNotActiveYet_isFreeWithTheFormersResult() public conserved {
        (Job memory job,) = _posted();
        _lease(alice, job, _list(0));
        _passLease();
        _lease(bob, job, _list(0));
        vm.roll(block.number + SUCCESSOR_DELAY - 1);
        vm.expectPartialRevert(IJobRegistry.NotYetActive.selector);
        _submit(bob, job, 0, RIGHT);
        uint256 before = vm.snapshotState();
        _submit(alice, job, 0, RIGHT);
        assertEq(_lockedStake(bob), 0);
        assertEq(escrow.balanceOf(bob).stake, STAKE);
        vm.revertToState(before);
        vm.roll(block.number + 1);
        _submit(bob, job, 0, RIGHT);
        assertEq(uint8(_state(job, 0)), uint8(BatchState.Submitted));
    }

    function test_registered_exitsTheDelayAfterItsRequest() public conserved {
        vm.startPrank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY - 1);
        vm.expectPartialRevert(IProviderRegistry.ExitTooEarly.selector);
        providers.exit();
        vm.warp(block.timestamp + 1);
        providers.exit();
        vm.stopPrank();
        assertEq(_available(_payout(alice)), STAKE);
        uint256 available = _available(_payout(alice));
        vm.prank(_payout(alice));
        escrow.withdraw(available);
        assertEq(token.balanceOf(_payout(alice)), STAKE);
    }

    function test_earnings_areWithdrawnAtOnce_byEither() public conserved {
        (Job memory job,) = _posted();
        _submitted(alice, job, 0, RIGHT);
        _submitted(alice, job, 1, RIGHT);
        vm.prank(requester);
        jobs.accept(job, _submissions(alice, job, 0, RIGHT));
        vm.prank(alice);
        providers.withdraw(alice);
        vm.prank(requester);
        jobs.accept(job, _submissions(alice, job, 1, RIGHT));
        vm.prank(_payout(alice));
        providers.withdraw(alice);
        assertEq(token.balanceOf(_payout(alice)), 2 * _price(job, RIGHT));
    }

    /// All rounds that a job may have, each as long as it gets: the end is within the time that its post had to prove.
    function test_everyRoundTheLongest_endsWithinTheCommitment() public conserved {
        ReplicatedJob memory job = _replicated();
        job.assurance.replicas = 2;
        (job.assurance.limit, job.assurance.target) = (3, 980_000_000);
        _open(job);
        _register(dave, STAKE);
        start = block.timestamp;
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        vm.warp(start + 2 * LEASE);
        _commit(alice, job, 0, RIGHT);
        _commit(bob, job, 0, WRONG);
        vm.warp(block.timestamp + REVEAL);
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, WRONG);
        _finalise(job, _tally(alice, bob, RIGHT, WRONG));
        _firstAt(
            block.timestamp + 2 * LEASE + 1, address(replicas), _finaliseCall(job, _tally(alice, bob, RIGHT, WRONG))
        );
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Undecided));
        assertLe(block.timestamp - start, job.assurance.limit * (2 * LEASE + REVEAL) + WINDOW);
    }

    /// As a stranger: refused a second before `at`, done at it.
    function _firstAt(uint256 at, address to, bytes memory data) private {
        bool ok;
        vm.warp(at - 1);
        vm.prank(stranger);
        (ok,) = to.call(data);
        assertFalse(ok, "sooner than the table says");
        vm.warp(at);
        vm.prank(stranger);
        (ok,) = to.call(data);
        assertTrue(ok, "later than the table says");
    }

    function _firstRevealAt(uint256 at, ReplicatedJob memory job) private {
        vm.warp(at - 1);
        vm.expectPartialRevert(IReplicaRegistry.TooEarly.selector);
        _reveal(alice, job, 0, RIGHT);
        vm.warp(at);
        _reveal(alice, job, 0, RIGHT);
    }

    function _finaliseCall(ReplicatedJob memory job, Tally memory tally) private pure returns (bytes memory) {
        return abi.encodeCall(IReplicaRegistry.finalise, (job, _one(tally)));
    }

    /// One newcomer is believed.
    function _lenient() private returns (ReplicatedJob memory job) {
        job = _replicated();
        job.job.nonce = 7;
        job.assurance.target = 700_000_000;
        _open(job);
    }

    /// Every slot of every batch is taken, and Dave backs Alice up in batch 0. Returns when that was leased first.
    function _straggling(ReplicatedJob memory job) private returns (uint256 first) {
        first = block.timestamp;
        for (uint32 batch = 0; batch < 3; ++batch) {
            for (uint256 i = 0; i < 3; ++i) {
                _lease(three[i], job, batch);
            }
        }
        _register(dave, STAKE);
        vm.roll(block.number + 1);
        // Half of the lease, and the lot's time, in which the latest have their turn.
        vm.warp(first + LEASE / 2 + WIDEN);
        vm.prank(dave);
        replicas.backUp(job, 0, alice);
    }

    function _tallyOfAlice(uint64 fuel) private view returns (Tally memory) {
        address[] memory who = new address[](1);
        uint64[] memory fuels = new uint64[](1);
        (who[0], fuels[0]) = (alice, fuel);
        return _tally(0, who, fuels);
    }

    function _tally(address a, address b, uint64 ofA, uint64 ofB) private pure returns (Tally memory) {
        address[] memory who = new address[](2);
        uint64[] memory fuels = new uint64[](2);
        (who[0], who[1], fuels[0], fuels[1]) = (a, b, ofA, ofB);
        return _tally(0, who, fuels);
    }
}
