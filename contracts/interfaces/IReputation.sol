// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice A provider's record. Only fuel that a requester or a window let pass counts as served; it is no proof of correctness.
struct ProviderRecord {
    uint64 settledBatches;
    uint64 expiredLeases;
    uint128 paidFuel;
}

/// @notice A requester's record.
struct RequesterRecord {
    /// Batches it accepted itself, within their window or later.
    uint64 accepted;
    /// Batches that were paid because it kept silent.
    uint64 timedOut;
}

/// @title What the protocol has seen of each side
/// @notice Written by the JobRegistry of the same deployment only. Neither an early accept nor silence adds a check: nothing
/// here makes a provider's vote heavier.
interface IReputation {
    error NotJobRegistry(address caller);

    function recordSettled(uint32 provider, address requester, uint64 fuel, bool accepted) external;
    function recordExpired(uint32 provider) external;
    function providerRecord(uint32 provider) external view returns (ProviderRecord memory);
    function requesterRecord(address requester) external view returns (RequesterRecord memory);
}
