// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice What the protocol has seen of a provider.
struct ProviderRecord {
    /// Checks passed since its last wrong result. Neither an early accept nor silence is one: only a vote in which others agreed, and
    /// of which it cost the requester a burned fee.
    uint32 checks;
    /// Leases that ran out.
    uint32 expired;
    /// Results that were wrong: challenged, outvoted, or committed and never revealed.
    uint32 failed;
    /// Results whose output was demanded and not shown.
    uint32 withheld;
}

/// @notice What the protocol has seen of a requester.
struct RequesterRecord {
    /// Batches it accepted itself, within their window or later.
    uint32 accepted;
    /// Batches that were paid because it kept silent.
    uint32 timedOut;
    /// Challenges and demands that it lost.
    uint256 lostDisputes;
}

/// @title What the protocol has seen of each side
/// @notice Reads only: records are kept where they are cheapest to write, beside the account's balance ({IEscrow-balanceOf}), and
/// disputes that a requester lost in {IDisputes-lostBy}.
interface IReputation {
    /// @notice The record of a provider; all zero if it is none.
    function providerRecord(address provider) external view returns (ProviderRecord memory);
    /// @notice The record of a requester; all zero if it is none.
    function requesterRecord(address requester) external view returns (RequesterRecord memory);
    /// @notice Odds that a result of `provider` is right, in 1/10^6: max((1 - f) / f, s / f - 1) after s checks passed, f the deployment's
    /// assumed share of bad providers. What its vote weighs.
    function oddsOf(address provider) external view returns (uint256);
    /// @notice The same as a probability, in 1/10^9: odds / (1 + odds), rounded down. A newcomer's is 1 - f.
    function scoreOf(address provider) external view returns (uint256);
}
