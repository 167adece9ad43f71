// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Job, Spec} from "./IJobRegistry.sol";
import {Opening, ReplicatedJob, Reveal} from "./IReplicaRegistry.sol";

/// @title Which jobs can be posted, and what they lock
/// @notice Reads only; apart from the registries because a contract's code has a size limit (EIP-170).
interface IJobRules {
    /// What is wrong with a job.
    error InvalidJob(string reason);

    /// @notice Worst-case price of a whole job, token wei. Reverts if it cannot be posted.
    function depositOf(Job calldata job, Spec calldata spec) external view returns (uint256);
    /// @notice The same with all executions and the protocol fee on top.
    function depositOfReplicated(ReplicatedJob calldata job, Spec calldata spec) external view returns (uint256);
    /// @notice What `open` batches of `job`, whether or not its last is among them, lock under other `terms` for the same work. Reverts if
    /// they cannot be amended so.
    function depositOfAmended(ReplicatedJob calldata job, ReplicatedJob calldata terms, uint256 open, bool withLast)
        external
        view
        returns (uint256);
    /// @notice Reverts unless a job's fields fit each other, its spec apart.
    function checkTerms(Job calldata job) external view;
    /// @notice Whether `opening` shows the leaf that the block with that hash draws, in both trees of what is revealed.
    function isOpened(
        ReplicatedJob calldata job,
        bytes32 jobId,
        bytes32 hash,
        Reveal calldata given,
        Opening calldata opening
    ) external pure returns (bool);
}
