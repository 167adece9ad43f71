// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice What the protocol has seen of a provider.
struct ProviderRecord {
    /// Checks passed. Neither an early accept nor silence is one.
    uint32 checks;
    /// Leases that ran out.
    uint32 expired;
}

/// @notice What the protocol has seen of a requester.
struct RequesterRecord {
    /// Batches it accepted itself, within their window or later.
    uint32 accepted;
    /// Batches that were paid because it kept silent.
    uint32 timedOut;
}

/// @title What the protocol has seen of each side
/// @notice Reads only: records are kept where they are cheapest to write, a provider's beside its registration
/// ({IProviderRegistry-providerOf}), a requester's beside its balance ({IEscrow-balanceOf}).
interface IReputation {
    function providerRecord(address provider) external view returns (ProviderRecord memory);
    function requesterRecord(address requester) external view returns (RequesterRecord memory);
}
