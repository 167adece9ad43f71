// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CaseState} from "../../../interfaces/IDisputes.sol";
import {Balance} from "../../../interfaces/IEscrow.sol";
import {BallotState, ReplicaState, ReplicatedJob, Tally} from "../../../interfaces/IReplicaRegistry.sol";
import {Ballot, Replica} from "../../../libraries/Ballots.sol";
import {GhostCase} from "../Cases.sol";
import {ReplicaCampaign} from "./ReplicaCampaign.sol";

/// @notice The ways out of every state, I3 and I4: by waiting, and by calls that are one's own or anybody's.
abstract contract ReplicaExits is ReplicaCampaign {
    /// Each alone, and then all.
    function _everybodyGetsOut() internal {
        for (uint256 a = 0; a < accounts.length; ++a) {
            uint256 before = vm.snapshotState();
            _getOut(accounts[a]);
            vm.revertToState(before);
        }
        for (uint256 a = 0; a < accounts.length; ++a) {
            _getOut(accounts[a]);
        }
        // Whose earnings came while it was out already.
        for (uint256 a = 0; a < accounts.length; ++a) {
            _withdrawAll(accounts[a]);
        }
        escrow.burn();
        uint256 dust = escrow.balanceOf(address(disputes)).available;
        assertEq(dust, handler.dust(), "less than a wei for each winner");
        assertLe(dust, handler.caseCount());
        assertEq(token.balanceOf(address(escrow)), handler.donated() + dust, "nothing stays behind");
    }

    /// One account alone, by waiting and by calls that are its own or anybody's.
    function _getOut(address who) private {
        vm.startPrank(who);
        uint256[] memory numbers = handler.currentJobs();
        for (uint256 i = 0; i < numbers.length; ++i) {
            ReplicatedJob memory job = handler.jobAt(numbers[i]);
            bytes32 id = handler.idOf(job);
            if (job.job.requester == who && !replicas.ballotOf(id, 0).isCancelled()) replicas.cancel(job);
        }
        // At most two rounds follow the first, and each has a window or a dispute.
        uint256 turns;
        while (_endAll(who, numbers)) {
            assertLt(++turns, 8, "an end within the sum of the deadlines");
        }
        for (uint256 i = 0; i < handler.caseCount(); ++i) {
            (bytes32 id, GhostCase memory c) = handler.caseAt(i);
            CaseState state = disputes.caseOf(id).state;
            if (c.claimant == who && (state == CaseState.Open || state == CaseState.Won)) disputes.claim(id);
        }
        if (providers.providerOf(who).payout != address(0)) {
            if (providers.providerOf(who).exitAt == 0) providers.requestExit();
            vm.warp(block.timestamp + 10_001);
            providers.exit();
        }
        vm.stopPrank();
        _withdrawAll(who);
        Balance memory left = escrow.balanceOf(who);
        assertEq(uint256(left.locked) + left.earned + left.stake + left.held, 0, "all that is due to it");
    }

    /// What `who` may do for all batches once their deadlines are over; whether there was anything.
    function _endAll(address who, uint256[] memory numbers) private returns (bool any) {
        vm.warp(block.timestamp + 4000);
        vm.roll(block.number + 400);
        for (uint256 i = 0; i < numbers.length; ++i) {
            ReplicatedJob memory job = handler.jobAt(numbers[i]);
            bytes32 id = handler.idOf(job);
            for (uint32 b = 0; b < _batches(job); ++b) {
                if (_endOwn(who, job, id, b)) any = true;
            }
        }
    }

    function _withdrawAll(address who) private {
        uint256 available = escrow.balanceOf(who).available;
        vm.prank(who);
        escrow.withdraw(available);
    }

    /// What anybody may do for a batch in which `who` has a part.
    function _endOwn(address who, ReplicatedJob memory job, bytes32 id, uint32 b) private returns (bool) {
        Replica own = replicas.replicaOf(id, b, who);
        Ballot ballot = replicas.ballotOf(id, b);
        if (own.state() == ReplicaState.Leased && _isBeaten(id, b, own)) replicas.release(job, _list(b));
        if (ballot.state() == BallotState.Open || ballot.state() >= BallotState.Settled) return false;
        bool hasPart = job.job.requester == who || own.state() != ReplicaState.None && own.state() != ReplicaState.Done;
        // A claimant waits for the end of its case.
        if (!hasPart && ballot.state() != BallotState.Frozen) return false;
        Tally memory tally = handler.tallyOf(id, b);
        if (ballot.state() == BallotState.Drawing) {
            replicas.draw(job, b);
        } else if (ballot.state() == BallotState.Frozen) {
            replicas.resolve(job, tally);
        } else {
            if (ballot.state() == BallotState.Committing) _expireAll(job, id, b);
            // Nobody has committed: it is open again, or cancelled.
            ballot = replicas.ballotOf(id, b);
            if (ballot.state() == BallotState.Open || ballot.state() == BallotState.Cancelled) return true;
            bool first = ballot.state() == BallotState.Committing && ballot.isFirstRound();
            if (first && job.assurance.auditBps != 0) replicas.draw(job, b);
            else replicas.finalise(job, _one(tally));
        }
        return true;
    }

    function _expireAll(ReplicatedJob memory job, bytes32 id, uint32 b) private {
        for (uint256 a = 0; a < accounts.length; ++a) {
            Replica replica = replicas.replicaOf(id, b, accounts[a]);
            if (replica.state() != ReplicaState.Leased || _isBeaten(id, b, replica)) continue;
            replicas.expire(job, b, accounts[a]);
        }
    }

    function _isBeaten(bytes32 id, uint32 b, Replica replica) private view returns (bool) {
        address rival = replica.rival();
        return rival != address(0) && replicas.replicaOf(id, b, rival).state() != ReplicaState.Leased;
    }
}
