// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Job} from "../../interfaces/IJobRegistry.sol";
import {Jobs} from "../../libraries/Jobs.sol";
import {Symbolic} from "./Symbolic.sol";

/// @notice Batches partition a job's tasks, so that a deposit, {Jobs-worstOf}, is the sum of what each batch may cost, {Jobs-worst}.
/// @dev Of batch sizes that are powers of two: solvers do not get through other divisions in minutes, nor through products of prices and fuel.
contract JobsSymbolicTest is Symbolic {
    using Jobs for Job;

    function check_tasksIn_sumsToTaskCount(Job calldata job, uint32 batch, uint8 pick) public pure {
        uint32 size = pick == 0 ? 1 : pick == 1 ? 64 : 65_536;
        vm.assume(job.batchSize == size);
        vm.assume(size <= job.taskCount);
        uint256 count = job.batchCount();
        vm.assume(batch < count);
        uint256 tasks = job.tasksIn(batch);
        assert(tasks != 0);
        if (uint256(batch) + 1 < count) assert(tasks == size);
        else assert(uint256(batch) * size + tasks == job.taskCount);
    }
}
