// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Standing} from "./IDisputes.sol";

/// @title Who decides whether a challenged result is right
/// @notice Fixed at deployment ({IDeployment-Settings}). It answers with {IDisputes-rule}, before the ruling deadline: what is not
/// ruled by then counts as never challenged.
interface IArbiter {
    /// @notice Disputes: `challenger` says that the leaf of `task` in the result `standing` is wrong. `commitment` is what the
    /// challenger holds against it, in the arbiter's own form. May revert: then there is no challenge.
    /// @param caseId names the challenge in {IDisputes-rule}.
    function open(bytes32 caseId, Standing calldata standing, uint32 task, bytes32 commitment, address challenger)
        external;
}
