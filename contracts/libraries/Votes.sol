// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Job} from "../interfaces/IJobRegistry.sol";
import {ReplicatedJob, Vote} from "../interfaces/IReplicaRegistry.sol";
import {Jobs} from "./Jobs.sol";
import {Odds} from "./Odds.sol";

/// @title What a replicated job costs, and what its votes say
library Votes {
    using Jobs for Job;

    uint256 private constant BPS = 10_000;

    /// Whether a lot decides who may lease first.
    function isSorted(ReplicatedJob calldata job) internal pure returns (bool) {
        return job.assurance.widenSeconds != 0;
    }

    /// Most that a batch may cost with all its executions and the fee on top, token wei.
    function costOf(ReplicatedJob calldata job, uint32 batch, uint256 feeBps) internal pure returns (uint256) {
        // Below 2^192 times 15 and, for a fee, 10,000.
        unchecked {
            uint256 worst = job.job.worst(batch) * job.assurance.limit;
            return worst + Math.ceilDiv(worst * feeBps, BPS);
        }
    }

    /// The same of `count` batches, of which the last may hold fewer tasks.
    function costOf(ReplicatedJob calldata job, uint256 count, bool withLast, uint256 feeBps)
        internal
        pure
        returns (uint256)
    {
        // Below 2^24 times 2^197.
        unchecked {
            if (!withLast) return count * costOf(job, 0, feeBps);
            return (count - 1) * costOf(job, 0, feeBps) + costOf(job, job.job.batchCount() - 1, feeBps);
        }
    }

    /// A vote of the group of equal votes with the best odds, how many are in it, and whether it is believed. What was not revealed is in
    /// no group.
    function tally(Vote[] memory votes, uint256[] memory checks, uint256 target, uint256 faultyBps)
        internal
        pure
        returns (uint256 best, uint256 agreed, bool accepted)
    {
        uint256 sum;
        uint256 most = Odds.ONE;
        // Mostly all agree.
        while (agreed < votes.length && votes[agreed].root != 0 && (agreed == 0 || _equal(votes[agreed], votes[0]))) {
            most = Odds.times(most, Odds.after_(checks[agreed], faultyBps));
            ++agreed;
        }
        if (agreed == votes.length) return (0, agreed, Odds.exceeds(most, most, target));
        (most, agreed) = (0, 0);
        for (uint256 i = 0; i < votes.length; ++i) {
            if (votes[i].root == 0 || _isCounted(votes, i)) continue;
            uint256 group = Odds.ONE;
            uint256 size;
            for (uint256 j = i; j < votes.length; ++j) {
                if (!_equal(votes[i], votes[j])) continue;
                group = Odds.times(group, Odds.after_(checks[j], faultyBps));
                ++size;
            }
            sum += group;
            if (group > most) (best, most, agreed) = (i, group, size);
        }
        accepted = Odds.exceeds(most, sum, target);
    }

    function _isCounted(Vote[] memory votes, uint256 i) private pure returns (bool) {
        for (uint256 j = 0; j < i; ++j) {
            if (_equal(votes[i], votes[j])) return true;
        }
        return false;
    }

    function _equal(Vote memory a, Vote memory b) private pure returns (bool) {
        return a.root == b.root && a.fuel == b.fuel;
    }
}
