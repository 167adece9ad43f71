// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BallotState, IReplicaRegistry, ReplicaState, ReplicatedJob, Reveal} from "../interfaces/IReplicaRegistry.sol";
import {RequesterRecord} from "../interfaces/IReputation.sol";
import {ReplicaCases} from "./ReplicaCases.sol";

/// The requester pays before the window is over: what is unanimous, and nothing else (rule 8).
contract ReplicaRegistryAcceptTest is ReplicaCases {
    function test_accept_paysAtOnceWhatIsUnanimous() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _voted(job, 0, RIGHT, RIGHT, RIGHT);
        _accept(job, _tally(0, RIGHT, RIGHT, RIGHT));
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Settled));
        assertEq(_earned(alice), _price(job.job, RIGHT));
    }

    /// Each paid batch once, by whoever's doing it was; what is undecided, or open again, not at all.
    function test_theRequestersRecord_countsWhatItAcceptedAndWhatTimedOut() public solvent {
        ReplicatedJob memory job = _replicated();
        job.assurance.limit = 3;
        _open(job);
        _voted(job, 0, RIGHT, RIGHT, RIGHT);
        _accept(job, _tally(0, RIGHT, RIGHT, RIGHT));
        _expectRecord(1, 0);
        _voted(job, 1, RIGHT, RIGHT, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        // Its own call is no acceptance either.
        vm.prank(requester);
        replicas.finalise(job, _one(_tally(1, RIGHT, RIGHT, RIGHT)));
        _expectRecord(1, 1);
        _committedBy(job, 2, RIGHT, RIGHT, RIGHT);
        vm.warp(block.timestamp + REVEAL + 1);
        _finalise(job, _tally(2, 0, 0, 0));
        _expectRecord(1, 1);
        ReplicatedJob memory other = _replicated();
        (other.job.nonce, other.assurance.limit) = (2, 3);
        _open(other);
        _setChecks(carol, 2);
        _voted(other, 0, RIGHT, RIGHT, WRONG);
        _finalise(other, _tally(0, RIGHT, RIGHT, WRONG));
        assertEq(uint8(_stateOf(other, 0)), uint8(BallotState.Undecided));
        _expectRecord(1, 1);
    }

    function _expectRecord(uint32 accepted, uint32 timedOut) private view {
        RequesterRecord memory have = reputation.requesterRecord(requester);
        assertEq(abi.encode(have), abi.encode(RequesterRecord(accepted, timedOut, 0)));
    }

    /// Rule 8: else a requester's puppet would make the others lose before they can dispute it.
    function test_accept_waitsForTheWindow_whereSomebodyDissents() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _setChecks(alice, 10);
        _setChecks(bob, 10);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        uint256 finalAt = block.timestamp + WINDOW;
        vm.warp(finalAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, finalAt));
        _accept(job, _tally(0, RIGHT, RIGHT, WRONG));
        assertEq(_stake(carol), STAKE);
        vm.warp(finalAt);
        _accept(job, _tally(0, RIGHT, RIGHT, WRONG));
        assertEq(_stake(carol), STAKE - _lockOf(job, 4));
    }

    function test_accept_waitsForTheWindow_whereSomebodyIsSilent() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _setChecks(alice, 10);
        _setChecks(bob, 10);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, RIGHT);
        uint256 end = block.timestamp + REVEAL;
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _accept(job, _tally(0, RIGHT, RIGHT, 0));
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end + WINDOW));
        _accept(job, _tally(0, RIGHT, RIGHT, 0));
        vm.warp(end + WINDOW);
        _accept(job, _tally(0, RIGHT, RIGHT, 0));
    }

    function test_accept_doesNotMakeAVoteThatWasNone() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        vm.warp(block.timestamp + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotAccepted.selector, 0));
        _accept(job, _tally(0, RIGHT, RIGHT, WRONG));
    }

    // Reveal and accept

    /// The same end as when each reveals and the requester then accepts.
    function test_revealAndAccept_isRevealThenAccept() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        uint256 before = vm.snapshotState();
        bytes32[2] memory ends;
        for (uint256 i = 0; i < 2; ++i) {
            if (i == 0) {
                for (uint256 k = 0; k < 3; ++k) {
                    _reveal(three[k], job, 0, RIGHT);
                }
                _accept(job, _tally(0, RIGHT, RIGHT, RIGHT));
            } else {
                _revealAndAccept(requester, job, _reveals(0, RIGHT, RIGHT, RIGHT));
            }
            ends[i] = keccak256(
                abi.encode(
                    _ballot(job, 0),
                    _replica(job, 0, alice),
                    _replica(job, 0, bob),
                    _replica(job, 0, carol),
                    escrow.balanceOf(alice),
                    escrow.balanceOf(bob),
                    escrow.balanceOf(carol),
                    escrow.balanceOf(requester),
                    escrow.burnable()
                )
            );
            assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Settled));
            assertEq(_earned(carol), _price(job.job, RIGHT));
            if (i == 0) assertTrue(vm.revertToState(before));
        }
        assertEq(ends[0], ends[1]);
    }

    function test_revealAndAccept_paysTheOnlyReplicaOfABatch() public solvent {
        ReplicatedJob memory job = _replicated();
        (job.assurance.replicas, job.assurance.limit) = (1, 1);
        (job.assurance.target, job.assurance.widenSeconds) = (0, 0);
        _open(job);
        _lease(alice, job, 1);
        _commit(alice, job, 1, RIGHT);
        Reveal[] memory only = new Reveal[](1);
        only[0] = _revealed(alice, 1, RIGHT);
        _revealAndAccept(requester, job, only);
        assertEq(uint8(_stateOf(job, 1)), uint8(BallotState.Settled));
        assertEq(_earned(alice), _price(job.job, RIGHT));
    }

    function test_revealAndAccept_finishesWhatSomeRevealed_notTwice() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        _reveal(alice, job, 0, RIGHT);
        Reveal[] memory all = _reveals(0, RIGHT, RIGHT, RIGHT);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Revealed)
        );
        _revealAndAccept(requester, job, all);
    }

    function test_revealAndAccept_isTheRequesters() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotRequester.selector, alice, requester));
        _revealAndAccept(alice, job, _reveals(0, RIGHT, RIGHT, RIGHT));
    }

    function test_revealAndAccept_wantsAllOfOneBatch_inOrder() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        _committedBy(job, 1, RIGHT, RIGHT, RIGHT);
        Reveal[] memory all = _reveals(0, RIGHT, RIGHT, RIGHT);
        Reveal[] memory two = new Reveal[](2);
        (two[0], two[1]) = (all[0], all[1]);
        Reveal[] memory none;
        vm.expectRevert(IReplicaRegistry.NothingGiven.selector);
        _revealAndAccept(requester, job, none);
        bytes memory wrong = abi.encodeWithSelector(IReplicaRegistry.WrongVotes.selector, 0);
        // Not all are in yet: their time is not over.
        vm.expectPartialRevert(IReplicaRegistry.TooEarly.selector);
        _revealAndAccept(requester, job, two);
        (all[0], all[1]) = (all[1], all[0]);
        vm.expectRevert(wrong);
        _revealAndAccept(requester, job, all);
        (all[0], all[1]) = (all[1], all[0]);
        Reveal[] memory four = new Reveal[](4);
        (four[0], four[1], four[2], four[3]) = (all[0], all[1], all[2], _reveals(1, RIGHT, RIGHT, RIGHT)[0]);
        vm.expectRevert(wrong);
        _revealAndAccept(requester, job, four);
        _revealAndAccept(requester, job, all);
    }

    /// Who dissents may dispute it in the window: the reveals do not stand either, they can be made without the acceptance.
    function test_revealAndAccept_ofADissent_isRefused() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _setChecks(alice, 10);
        _setChecks(bob, 10);
        _committedBy(job, 1, RIGHT, RIGHT, WRONG);
        Reveal[] memory all = _reveals(1, RIGHT, RIGHT, WRONG);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 1, block.timestamp + WINDOW));
        _revealAndAccept(requester, job, all);
        assertEq(_ballot(job, 1).revealed(), 0);
    }

    /// What an extra round commits to takes an opening.
    function test_revealAndAccept_ofAnExtraRound_isRefused() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _voted(job, 0, RIGHT, RIGHT, WRONG);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, RIGHT, RIGHT, WRONG));
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(dave, job, 0);
        _commit(dave, job, 0, RIGHT);
        Reveal[] memory list = new Reveal[](1);
        list[0] = _revealed(dave, 0, RIGHT);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongReveal.selector, 0));
        _revealAndAccept(requester, job, list);
    }

    function _reveals(uint32 batch, uint64 ofAlice, uint64 ofBob, uint64 ofCarol)
        private
        view
        returns (Reveal[] memory list)
    {
        uint64[3] memory fuels = [ofAlice, ofBob, ofCarol];
        list = new Reveal[](3);
        for (uint256 i = 0; i < 3; ++i) {
            list[i] = _revealed(three[i], batch, fuels[i]);
        }
        return _ascending(list);
    }

    function _revealAndAccept(address who, ReplicatedJob memory job, Reveal[] memory list) private {
        vm.prank(who);
        replicas.revealAndAccept(job, list);
    }
}
