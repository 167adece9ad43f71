// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDeployment, Part} from "./interfaces/IDeployment.sol";
import {Balance, IEscrow} from "./interfaces/IEscrow.sol";
import {IProviderRegistry, Provider} from "./interfaces/IProviderRegistry.sol";
import {IReputation, ProviderRecord, RequesterRecord} from "./interfaces/IReputation.sol";

/// @title What the protocol has seen of each side
contract Reputation is IReputation {
    IEscrow private immutable _ESCROW;
    IProviderRegistry private immutable _PROVIDERS;

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _PROVIDERS = IProviderRegistry(deployment.addressOf(Part.ProviderRegistry));
    }

    /// @inheritdoc IReputation
    function providerRecord(address provider) external view returns (ProviderRecord memory) {
        Provider memory entry = _PROVIDERS.providerOf(provider);
        return ProviderRecord({checks: entry.checks, expired: entry.expired});
    }

    /// @inheritdoc IReputation
    function requesterRecord(address requester) external view returns (RequesterRecord memory) {
        Balance memory entry = _ESCROW.balanceOf(requester);
        return RequesterRecord({accepted: entry.accepted, timedOut: entry.timedOut});
    }
}
