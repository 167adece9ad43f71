// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice The constants of a deployment.
struct Settings {
    /// Receives the whole token supply.
    address tokenHolder;
    /// Token supply, token wei, below 2^88.
    uint256 tokenSupply;
    /// Least stake of a registration, token wei.
    uint96 minStake;
    /// Seconds between a provider's exit request and its exit; longer than maxCommitmentSeconds.
    uint40 exitDelaySeconds;
    /// Most that a job's lease and window may last together, seconds.
    uint40 maxCommitmentSeconds;
    /// Blocks before the next lease of an expired batch may submit; until then its former holder still may.
    uint40 successorDelayBlocks;
    /// Share of a batch's worst-case price that the first expiry burns, in 1/10,000; it doubles with each expiry.
    uint16 expiryBondBps;
    /// Audit share that a lease's stake assumes at least, in 1/10,000: the lock is worst-case price x (1 - a) / a.
    uint16 auditFloorBps;
}

/// @notice The parts of a deployment.
enum Part {
    Token,
    Escrow,
    ProviderRegistry,
    JobRegistry,
    Reputation
}

/// @title One set of contracts that know each other
/// @notice Knows the init code hash of each part and so its CREATE2 address before it exists; parts read their settings and
/// each other's addresses from here while they are constructed. Anyone may deploy a part, only the one right code fits.
interface IDeployment {
    event PartDeployed(Part indexed part, address at);

    error WrongInitCode(Part part, bytes32 have, bytes32 need);
    error InvalidSettings(string reason);

    /// @notice Deploys `part` from its init code (which takes no constructor arguments).
    function deploy(Part part, bytes calldata initCode) external returns (address at);
    function addressOf(Part part) external view returns (address);
    function settings() external view returns (Settings memory);
}
