// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Permit} from "./IEscrow.sol";
import {Contact} from "./IJobRegistry.sol";

/// @notice A registration: the account that leases and submits names it everywhere. Its stake is in the Escrow ({Balance}).
struct Provider {
    // slot 0: 160 + 40 + 40 bits
    /// Where earnings and the stake go.
    address payout;
    /// Block of the registration; 0 for none.
    uint40 registeredBlock;
    /// Block time from which `exit` works; 0 while no exit is under way.
    uint40 exitAt;
    // slot 1
    /// iroh endpoint id (ed25519 public key).
    bytes32 endpoint;
    // slot 2: 32 + 32 bits
    /// Checks passed: what makes a vote heavier ({IReputation}).
    uint32 checks;
    /// Leases that ran out; saturates.
    uint32 expired;
}

/// @title Providers and their stake
interface IProviderRegistry {
    event ProviderRegistered(address indexed provider, address payout, Contact contact, uint256 stake);
    event ProviderContactChanged(address indexed provider, Contact contact);
    event PayoutChanged(address indexed provider, address payout);
    event StakeAdded(address indexed provider, uint256 amount);
    event ExitRequested(address indexed provider, uint40 exitAt);
    event ExitCancelled(address indexed provider);
    /// Stake and earnings together.
    event ProviderExited(address indexed provider, uint256 amount);

    error AlreadyRegistered(address account);
    error NotRegistered(address account);
    error StakeTooSmall(uint256 have, uint256 need);
    error Exiting(uint40 exitAt);
    error NotExiting();
    error ExitTooEarly(uint40 exitAt);
    error NotJobRegistry(address caller);
    error NotPayout(address caller, address payout);
    error ZeroPayout();
    error ZeroEndpoint();

    /// @notice Registers the caller with `stake` token wei (at least Settings.minStake), taken as `IEscrow.lock` does.
    function register(address payout, Contact calldata contact, uint256 stake, Permit calldata permit) external;
    function setContact(Contact calldata contact) external;
    /// @notice Changes the payout address; only the present payout address may.
    function setPayout(address provider, address payout) external;
    function addStake(uint256 amount, Permit calldata permit) external;
    /// @notice Starts the exit delay; no new leases from now on.
    function requestExit() external;
    function cancelExit() external;
    /// @notice After the delay and with nothing locked: the stake and what was earned go to the payout address's Escrow balance.
    function exit() external;
    /// @notice Sends all that `provider` earned to its payout address. The provider itself or that address.
    function withdraw(address provider) external returns (uint256 amount);

    /// @notice JobRegistry: a lease of `provider` ran out.
    function recordExpired(address provider) external;

    /// @notice The registration of `account`; all zero if it has none.
    function providerOf(address account) external view returns (Provider memory);
}
