// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";

import {IDeployment, Part, Settings} from "./interfaces/IDeployment.sol";

/// @title One set of contracts that know each other
contract Deployment is IDeployment {
    /// @dev Salt of every part: the deployment's own address makes theirs unique.
    bytes32 private constant SALT = bytes32(0);

    Settings private _settings;
    mapping(Part part => bytes32) private _initCodeHashes;

    constructor(Settings memory chosen, bytes32[8] memory initCodeHashes) {
        if (chosen.tokenHolder == address(0)) revert InvalidSettings("tokenHolder is zero");
        // Whatever one account earns fits into its slot ({Balance}).
        if (chosen.tokenSupply == 0 || chosen.tokenSupply > type(uint88).max) {
            revert InvalidSettings("tokenSupply must be from 1 to 2^88 - 1");
        }
        if (chosen.exitDelaySeconds <= chosen.maxCommitmentSeconds) {
            revert InvalidSettings("exitDelaySeconds must exceed maxCommitmentSeconds");
        }
        if (chosen.maxCommitmentSeconds < 2 || chosen.exitDelaySeconds > 3650 days) {
            revert InvalidSettings("maxCommitmentSeconds must be at least 2, exitDelaySeconds at most ten years");
        }
        if (chosen.expiryBondBps > 10_000) revert InvalidSettings("expiryBondBps must be at most 10000");
        if (chosen.auditFloorBps == 0 || chosen.auditFloorBps >= 10_000) {
            // At 10,000 a lease would lock nothing, and its holder could exit before it is paid.
            revert InvalidSettings("auditFloorBps must be from 1 to 9999");
        }
        if (chosen.faultyBps == 0 || chosen.faultyBps >= 5000) {
            revert InvalidSettings("faultyBps must be from 1 to 4999: a newcomer is right more often than not");
        }
        if (chosen.minStake == 0 || chosen.checkFee == 0 || chosen.challengeBond == 0) {
            // Else lots, records and challenges can be had for nothing.
            revert InvalidSettings("minStake, checkFee and challengeBond must be at least 1");
        }
        if (chosen.successorDelayBlocks == 0 || chosen.successorDelayBlocks > 1_000_000) {
            revert InvalidSettings("successorDelayBlocks must be from 1 to 1000000");
        }
        if (chosen.feeBps > 10_000) revert InvalidSettings("feeBps must be at most 10000");
        if (chosen.rulingSeconds == 0 || chosen.rulingSeconds > 365 days) {
            revert InvalidSettings("rulingSeconds must be from 1 to a year");
        }
        if (chosen.demandSeconds == 0 || chosen.demandSeconds > 365 days) {
            revert InvalidSettings("demandSeconds must be from 1 to a year");
        }
        _settings = chosen;
        for (uint8 part = 0; part < initCodeHashes.length; ++part) {
            _initCodeHashes[Part(part)] = initCodeHashes[part];
        }
    }

    /// @inheritdoc IDeployment
    function deploy(Part part, bytes calldata initCode) external returns (address at) {
        bytes32 hash = keccak256(initCode);
        if (hash != _initCodeHashes[part]) revert WrongInitCode(part, hash, _initCodeHashes[part]);
        at = addressOf(part);
        if (at.code.length != 0) return at;
        Create2.deploy(0, SALT, initCode);
        emit PartDeployed(part, at);
    }

    /// @inheritdoc IDeployment
    function addressOf(Part part) public view returns (address) {
        return Create2.computeAddress(SALT, _initCodeHashes[part]);
    }

    /// @inheritdoc IDeployment
    function settings() external view returns (Settings memory) {
        return _settings;
    }
}
