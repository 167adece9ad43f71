// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IArbiter} from "../../interfaces/IArbiter.sol";
import {IDisputes, Standing} from "../../interfaces/IDisputes.sol";

/// @notice An arbiter that rules when it is told to.
contract TestArbiter is IArbiter {
    error Refused();

    /// What it was last asked.
    bytes32 public caseId;
    bytes32 public standing;
    uint32 public task;
    bytes32 public commitment;
    address public challenger;

    bool private _refuses;
    bool private _atOnce;

    /// From now on it takes no challenge.
    function refuse() external {
        _refuses = true;
    }

    /// From now on it upholds challenges while they are being opened.
    function upholdAtOnce() external {
        _atOnce = true;
    }

    function open(bytes32 caseId_, Standing calldata standing_, uint32 task_, bytes32 commitment_, address challenger_)
        external
    {
        if (_refuses) revert Refused();
        (caseId, standing) = (caseId_, keccak256(abi.encode(standing_)));
        (task, commitment, challenger) = (task_, commitment_, challenger_);
        if (_atOnce) IDisputes(msg.sender).rule(caseId_, true, address(0));
    }

    function rule(IDisputes disputes, bytes32 which, bool upheld, address defender) external {
        disputes.rule(which, upheld, defender);
    }
}
