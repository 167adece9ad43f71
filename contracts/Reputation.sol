// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDeployment, Part} from "./interfaces/IDeployment.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {Balance, IEscrow} from "./interfaces/IEscrow.sol";
import {IReputation, ProviderRecord, RequesterRecord} from "./interfaces/IReputation.sol";
import {Odds} from "./libraries/Odds.sol";

/// @title What the protocol has seen of each side
contract Reputation is IReputation {
    IEscrow private immutable _ESCROW;
    IDisputes private immutable _DISPUTES;
    uint256 private immutable _FAULTY_BPS;

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _DISPUTES = IDisputes(deployment.addressOf(Part.Disputes));
        _FAULTY_BPS = deployment.settings().faultyBps;
    }

    /// @inheritdoc IReputation
    function providerRecord(address provider) external view returns (ProviderRecord memory) {
        Balance memory entry = _ESCROW.balanceOf(provider);
        return ProviderRecord(entry.checks, entry.expired, entry.failed, entry.withheld);
    }

    /// @inheritdoc IReputation
    function requesterRecord(address requester) external view returns (RequesterRecord memory) {
        Balance memory entry = _ESCROW.balanceOf(requester);
        return RequesterRecord(entry.accepted, entry.timedOut, _DISPUTES.lostBy(requester));
    }

    /// @inheritdoc IReputation
    function oddsOf(address provider) public view returns (uint256) {
        return Odds.after_(_ESCROW.balanceOf(provider).checks, _FAULTY_BPS);
    }

    /// @inheritdoc IReputation
    function scoreOf(address provider) external view returns (uint256) {
        uint256 odds = oddsOf(provider);
        return odds * Odds.CERTAIN / (Odds.ONE + odds);
    }
}
