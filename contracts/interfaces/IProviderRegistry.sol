// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Permit} from "./IEscrow.sol";
import {Contact} from "./IJobRegistry.sol";

/// @notice A registration: the account that leases and submits names it everywhere. Its stake and record are in the Escrow ({Balance}).
struct Provider {
    // slot 0: 160 + 32 bits
    /// Where earnings and the stake go; 0 if the account is not registered.
    address payout;
    /// Block time from which `exit` works; 0 while no exit is under way.
    uint32 exitAt;
    // slot 1
    /// iroh endpoint id (ed25519 public key).
    bytes32 endpoint;
}

/// @title Providers and their stake
interface IProviderRegistry {
    /// `provider` may lease from now on, with `stake` token wei.
    event ProviderRegistered(address indexed provider, address payout, Contact contact, uint256 stake);
    /// The provider can now be reached there.
    event ProviderContactChanged(address indexed provider, Contact contact);
    /// Earnings and stake of `provider` go to `payout` from now on.
    event PayoutChanged(address indexed provider, address payout);
    /// The stake of `provider` grew by `amount` token wei.
    event StakeAdded(address indexed provider, uint256 amount);
    /// `provider` takes no new leases, and may leave from `exitAt`, block time, on.
    event ExitRequested(address indexed provider, uint40 exitAt);
    /// `provider` stays.
    event ExitCancelled(address indexed provider);
    /// Stake and earnings together.
    event ProviderExited(address indexed provider, uint256 amount);

    /// An account registers once until it exits.
    error AlreadyRegistered(address account);
    /// The account is no provider.
    error NotRegistered(address account);
    /// Settings.minStake is `need`, token wei.
    error StakeTooSmall(uint256 have, uint256 need);
    /// An exit is under way already.
    error Exiting(uint40 exitAt);
    /// No exit was requested.
    error NotExiting();
    /// The exit works from `exitAt`, block time, on.
    error ExitTooEarly(uint40 exitAt);
    /// Only the payout address, or where it says so the provider, may do that.
    error NotPayout(address caller, address payout);
    /// Earnings need somewhere to go.
    error ZeroPayout();
    /// A provider has an iroh endpoint.
    error ZeroEndpoint();

    /// @notice Registers the caller with `stake` token wei (at least Settings.minStake), taken as `IEscrow.lock` does.
    function register(address payout, Contact calldata contact, uint256 stake, Permit calldata permit) external;
    /// @notice Provider: tells others where it can be reached now.
    function setContact(Contact calldata contact) external;
    /// @notice Changes the payout address; only the present payout address may.
    function setPayout(address provider, address payout) external;
    /// @notice Adds to the caller's stake. In the lots of jobs posted before, it is now as one that registered after.
    function addStake(uint256 amount, Permit calldata permit) external;
    /// @notice Starts the exit delay; no new leases from now on.
    function requestExit() external;
    /// @notice Stays after all: leases may be taken again.
    function cancelExit() external;
    /// @notice After the delay and with nothing locked: the stake and what was earned go to the payout address's Escrow balance.
    function exit() external;
    /// @notice Sends all that `provider` earned to its payout address. The provider itself or that address.
    function withdraw(address provider) external returns (uint256 amount);

    /// @notice The registration of `account`; all zero if it has none.
    function providerOf(address account) external view returns (Provider memory);
}
