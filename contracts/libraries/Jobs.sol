// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Job} from "../interfaces/IJobRegistry.sol";

/// @title What a job's fields come to: batches, prices, worst cases
/// @dev Unchecked, for jobs that {IJobRules-checkTerms} let pass: batchSize is from 1 to taskCount, a batch's fuel below 2^64, prices are
/// below 2^128, and a batch asked for is one that the job has.
library Jobs {
    uint256 private constant GIGAFUEL = 1e9;

    function batchCount(Job calldata job) internal pure returns (uint32) {
        unchecked {
            return uint32((uint256(job.taskCount) + job.batchSize - 1) / job.batchSize);
        }
    }

    function tasksIn(Job calldata job, uint32 batch) internal pure returns (uint256) {
        unchecked {
            return Math.min(job.batchSize, uint256(job.taskCount) - uint256(batch) * job.batchSize);
        }
    }

    /// Most fuel that a batch may burn.
    function fuelIn(Job calldata job, uint32 batch) internal pure returns (uint256) {
        unchecked {
            return tasksIn(job, batch) * job.fuelLimit;
        }
    }

    /// Most that one execution of a batch may cost, token wei, rounded up.
    function worst(Job calldata job, uint32 batch) internal pure returns (uint256) {
        unchecked {
            return (fuelIn(job, batch) * job.maxPrice + GIGAFUEL - 1) / GIGAFUEL;
        }
    }

    /// The same of `count` batches, of which the last may hold fewer tasks.
    function worstOf(Job calldata job, uint256 count, bool withLast) internal pure returns (uint256) {
        // Below 2^24 times 2^192.
        unchecked {
            if (!withLast) return count * worst(job, 0);
            return (count - 1) * worst(job, 0) + worst(job, batchCount(job) - 1);
        }
    }

    /// How far the ramp has come, in 1/65,535.
    function step(Job calldata job) internal view returns (uint16) {
        uint256 elapsed = block.timestamp > job.rampStart ? block.timestamp - job.rampStart : 0;
        if (elapsed >= job.rampSeconds) return type(uint16).max;
        unchecked {
            // forge-lint: disable-next-line(unsafe-typecast) Below 65,535: elapsed is below rampSeconds.
            return uint16(elapsed * type(uint16).max / job.rampSeconds);
        }
    }

    /// Token wei for 10^9 fuel at a step of the ramp.
    function priceAt(Job calldata job, uint16 step_) internal pure returns (uint128) {
        unchecked {
            // forge-lint: disable-next-line(unsafe-typecast) It is at most maxPrice.
            return job.startPrice + uint128(uint256(job.maxPrice - job.startPrice) * step_ / type(uint16).max);
        }
    }

    /// What `fuel` comes to, token wei, rounded down.
    function payment(uint64 fuel, uint128 price) internal pure returns (uint256) {
        unchecked {
            return uint256(fuel) * price / GIGAFUEL;
        }
    }
}
