// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Part} from "../../interfaces/IDeployment.sol";
import {Verdict} from "../../interfaces/IDisputes.sol";
import {Voter} from "../../interfaces/IEscrow.sol";
import {BatchState, IJobRegistry, Job, Submission} from "../../interfaces/IJobRegistry.sol";
import {Parts} from "./Parts.sol";
import {Symbolic} from "./Symbolic.sol";

/// @notice I2, paid at most once, by induction: whatever is stored, only `accept` and `finalise` pay, they pay batches that were submitted
/// and are settled from then on, each once, and what is settled stays so through every call. So no sequence of calls pays twice.
contract JobRegistrySymbolicTest is Symbolic {
    IJobRegistry private registry;
    Parts private parts;

    function setUp() public {
        parts = new Parts();
        for (uint8 i = 0; i < 8; ++i) {
            _place(Part(i), address(parts));
        }
        registry = IJobRegistry(_create("JobRegistry"));
    }

    function _anyState(uint32 time, uint32 number, Verdict verdict) private {
        svm.enableSymbolicStorage(address(registry));
        vm.warp(time);
        vm.roll(number);
        parts.answer(verdict, Voter(0, 0, 0));
    }

    function _state(Job calldata job, uint32 batch) private view returns (BatchState) {
        return registry.batchState(job, batch).state;
    }

    function check_anyCall_leavesSettledBatches(
        Job calldata job,
        uint32 batch,
        address caller,
        uint32 time,
        uint32 number,
        Verdict verdict
    ) public {
        _anyState(time, number, verdict);
        vm.assume(_state(job, batch) == BatchState.Settled);
        _anyCall(caller);
        assert(_state(job, batch) == BatchState.Settled);
    }

    function check_anyCall_paysByAcceptAndFinaliseOnly(address caller, uint32 time, uint32 number, Verdict verdict)
        public
    {
        _anyState(time, number, verdict);
        bytes4 selector = _anyCall(caller);
        if (selector == registry.accept.selector || selector == registry.finalise.selector) return;
        assert(parts.paid() == 0);
    }

    /// With any job, batch and all else, in lists of one.
    function _anyCall(address caller) private returns (bytes4) {
        bytes memory data = svm.createCalldata("JobRegistry.sol", "JobRegistry");
        vm.prank(caller);
        (bool ok,) = address(registry).call(data);
        vm.assume(ok);
        return bytes4(data);
    }

    function check_settling_paysEachSubmittedBatchOnce(
        Job calldata job,
        Submission[2] calldata given,
        bool accepted,
        uint32 time
    ) public {
        _anyState(time, 0, Verdict.Stands);
        Submission[] memory submissions = new Submission[](2);
        (submissions[0], submissions[1]) = (given[0], given[1]);
        BatchState first = _state(job, given[0].batch);
        BatchState second = _state(job, given[1].batch);
        vm.prank(job.requester);
        if (accepted) registry.accept(job, submissions);
        else registry.finalise(job, submissions);
        assert(given[0].batch != given[1].batch);
        assert(first == BatchState.Submitted);
        assert(second == BatchState.Submitted);
        assert(_state(job, given[0].batch) == BatchState.Settled);
        assert(_state(job, given[1].batch) == BatchState.Settled);
        assert(parts.paid() == 2);
    }
}
