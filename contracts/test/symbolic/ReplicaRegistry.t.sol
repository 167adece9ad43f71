// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Part} from "../../interfaces/IDeployment.sol";
import {Verdict} from "../../interfaces/IDisputes.sol";
import {Voter} from "../../interfaces/IEscrow.sol";
import {BallotState, IReplicaRegistry, ReplicatedJob, Tally, Vote} from "../../interfaces/IReplicaRegistry.sol";
import {Parts} from "./Parts.sol";
import {Symbolic} from "./Symbolic.sol";

/// @notice I2, paid at most once, by induction, as {JobRegistrySymbolicTest} for jobs of several executions: what is final stays so through
/// every call, and what pays makes its batch final.
contract ReplicaRegistrySymbolicTest is Symbolic {
    IReplicaRegistry private registry;
    Parts private parts;

    function setUp() public {
        parts = new Parts();
        for (uint8 i = 0; i < 8; ++i) {
            _place(Part(i), address(parts));
        }
        registry = IReplicaRegistry(_create("ReplicaRegistry"));
    }

    function _anyState(uint32 time, uint32 number, Verdict verdict, Voter calldata voter) private {
        svm.enableSymbolicStorage(address(registry));
        vm.warp(time);
        vm.roll(number);
        parts.answer(verdict, voter);
    }

    function _state(bytes32 jobId, uint32 batch) private view returns (BallotState) {
        return registry.ballotOf(jobId, batch).state();
    }

    function _isFinal(BallotState state) private pure returns (bool) {
        return state == BallotState.Settled || state == BallotState.Undecided || state == BallotState.Overturned;
    }

    /// Of a job that was posted: others have no batches.
    function check_anyCall_leavesFinalBatches(
        bytes32 jobId,
        uint32 batch,
        address caller,
        uint32 time,
        uint32 number,
        Verdict verdict,
        Voter calldata voter
    ) public {
        _anyState(time, number, verdict, voter);
        vm.assume(registry.ballotOf(jobId, 0).isPosted());
        BallotState state = _state(jobId, batch);
        vm.assume(_isFinal(state));
        _anyCall(caller);
        assert(_state(jobId, batch) == state);
    }

    function check_anyCall_paysByAcceptAndFinaliseOnly(
        address caller,
        uint32 time,
        uint32 number,
        Verdict verdict,
        Voter calldata voter
    ) public {
        _anyState(time, number, verdict, voter);
        bytes4 selector = _anyCall(caller);
        if (selector == registry.accept.selector || selector == registry.finalise.selector) return;
        if (selector == registry.revealAndAccept.selector) return;
        assert(parts.paid() == 0);
    }

    function check_settling_paysVotesOfAnOpenBallotOnce(
        ReplicatedJob calldata job,
        uint32 batch,
        Vote[2] calldata given,
        bool accepted,
        uint32 time
    ) public {
        svm.enableSymbolicStorage(address(registry));
        vm.warp(time);
        bytes32 jobId = registry.jobIdOf(job);
        Tally[] memory tallies = new Tally[](1);
        tallies[0] = Tally(batch, new Vote[](2));
        (tallies[0].votes[0], tallies[0].votes[1]) = (given[0], given[1]);
        BallotState before = _state(jobId, batch);
        vm.prank(job.job.requester);
        if (accepted) registry.accept(job, tallies);
        else registry.finalise(job, tallies);
        if (parts.paid() == 0) return;
        assert(parts.paid() <= 2);
        assert(given[0].provider != given[1].provider);
        assert(before == BallotState.Revealing || before == BallotState.Committing);
        assert(_state(jobId, batch) == BallotState.Settled);
    }

    /// With any job, batch and all else, in lists of one.
    function _anyCall(address caller) private returns (bytes4) {
        bytes memory data = svm.createCalldata("ReplicaRegistry.sol", "ReplicaRegistry");
        vm.prank(caller);
        (bool ok,) = address(registry).call(data);
        vm.assume(ok);
        return bytes4(data);
    }
}
