// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Permit} from "./IEscrow.sol";
import {Contact} from "./IJobRegistry.sol";

/// @notice A registration.
struct Provider {
    // slot 0: 160 + 96 bits
    /// The hot account that leases and submits.
    address account;
    /// Staked token wei.
    uint96 stake;
    // slot 1: 160 + 96 bits
    /// Where earnings and the stake go.
    address payout;
    /// Part of the stake that running leases and open windows hold.
    uint96 locked;
    // slot 2
    /// iroh endpoint id (ed25519 public key).
    bytes32 endpoint;
    // slot 3: 40 + 40 bits
    /// Block time of registration.
    uint40 registeredAt;
    /// Block time from which `exit` works; 0 while no exit is under way.
    uint40 exitAt;
}

/// @title Providers and their stake
interface IProviderRegistry {
    event ProviderRegistered(
        uint32 indexed index, address indexed account, address payout, Contact contact, uint256 stake
    );
    event ProviderContactChanged(uint32 indexed index, Contact contact);
    event PayoutChanged(uint32 indexed index, address payout);
    event StakeAdded(uint32 indexed index, uint256 amount, uint256 stake);
    event ExitRequested(uint32 indexed index, uint40 exitAt);
    event ExitCancelled(uint32 indexed index);
    event ProviderExited(uint32 indexed index, uint256 stake);
    event StakeSlashed(uint32 indexed index, uint256 amount, uint256 stake);

    error AlreadyRegistered(uint32 index);
    error NotRegistered(address account);
    error StakeTooSmall(uint256 have, uint256 need);
    /// `free` of the stake is not locked; the leases need `need`.
    error FreeStakeTooSmall(uint256 free, uint256 need);
    error Exiting(uint40 exitAt);
    error NotExiting();
    error ExitTooEarly(uint40 exitAt);
    error StakeLocked(uint256 locked);
    error NotJobRegistry(address caller);
    error NotPayout(address caller, address payout);
    error ZeroPayout();
    error ZeroEndpoint();

    /// @notice Registers the caller with `stake` token wei (at least Settings.minStake), taken as `IEscrow.lock` does.
    function register(address payout, Contact calldata contact, uint256 stake, Permit calldata permit)
        external
        returns (uint32 index);
    function setContact(Contact calldata contact) external;
    /// @notice Changes the payout address; only the present payout address may.
    function setPayout(uint32 index, address payout) external;
    function addStake(uint256 amount, Permit calldata permit) external;
    /// @notice Starts the exit delay; no new leases from now on.
    function requestExit() external;
    function cancelExit() external;
    /// @notice After the delay and with nothing locked: the stake goes to the payout address's Escrow balance.
    function exit() external;
    /// @notice Sends the payout address's whole Escrow balance to the payout address. Registered account or payout address.
    function withdraw(uint32 index) external returns (uint256 amount);

    /// @notice JobRegistry: locks `amount` of the stake of `account`; its index.
    function lockStake(address account, uint256 amount) external returns (uint32 index);
    /// @notice JobRegistry: unlocks `unlocked` and slashes `slashed` of what was locked.
    function unlockStake(uint32 index, uint256 unlocked, uint256 slashed) external returns (address payout);

    /// @notice Registration index of `account`, 0 if it has none. Indices start at 1 and are never reused.
    function indexOf(address account) external view returns (uint32);
    function provider(uint32 index) external view returns (Provider memory);
    function count() external view returns (uint32);
}
