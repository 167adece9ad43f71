// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDeployment, Part} from "./interfaces/IDeployment.sol";
import {IReputation, ProviderRecord, RequesterRecord} from "./interfaces/IReputation.sol";

/// @title What the protocol has seen of each side
contract Reputation is IReputation {
    address private immutable _JOBS;

    mapping(uint32 provider => ProviderRecord) private _providers;
    mapping(address requester => RequesterRecord) private _requesters;

    modifier onlyJobRegistry() {
        if (msg.sender != _JOBS) revert NotJobRegistry(msg.sender);
        _;
    }

    constructor() {
        _JOBS = IDeployment(msg.sender).addressOf(Part.JobRegistry);
    }

    /// @inheritdoc IReputation
    function recordSettled(uint32 provider, address requester, uint64 fuel, bool accepted) external onlyJobRegistry {
        ProviderRecord storage record = _providers[provider];
        record.settledBatches += 1;
        record.paidFuel += fuel;
        if (accepted) _requesters[requester].accepted += 1;
        else _requesters[requester].timedOut += 1;
    }

    /// @inheritdoc IReputation
    function recordExpired(uint32 provider) external onlyJobRegistry {
        _providers[provider].expiredLeases += 1;
    }

    /// @inheritdoc IReputation
    function providerRecord(uint32 provider) external view returns (ProviderRecord memory) {
        return _providers[provider];
    }

    /// @inheritdoc IReputation
    function requesterRecord(address requester) external view returns (RequesterRecord memory) {
        return _requesters[requester];
    }
}
