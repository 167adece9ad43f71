// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice An EIP-2612 signature for the Escrow as spender; `deadline` 0 means that there is none.
struct Permit {
    uint256 value;
    uint256 deadline;
    uint8 v;
    bytes32 r;
    bytes32 s;
}

/// @notice One account's tokens, token wei, and, since that slot is written with them anyway, its record as a requester.
struct Balance {
    // slot 0: 96 + 96 + 32 + 32 bits: the account as a requester
    /// What it may withdraw, lock or stake.
    uint96 available;
    /// Deposits for batches that are not final.
    uint96 locked;
    /// Batches that it accepted; saturates.
    uint32 accepted;
    /// Batches that were paid because it kept silent; saturates.
    uint32 timedOut;
    // slot 1: 88 + 80 + 80 + 8 bits: the account as a provider
    /// What it earned; goes to its payout address only ({IProviderRegistry-withdraw}).
    uint88 earned;
    /// Its stake, below 2^80.
    uint80 stake;
    /// Part of the stake that running leases and open windows hold.
    uint80 held;
    /// No new leases.
    bool exiting;
}

/// @title The only contract that holds tokens
/// @notice Conservation: token.balanceOf(escrow) = sum of all available, locked, earned and stake + burnable, always.
/// Locked tokens are moved by the two registries of the same deployment only; no owner, no pause, no upgrade.
interface IEscrow {
    event Deposited(address indexed from, address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);
    /// What `account` earned went to its payout address.
    event PaidOut(address indexed account, address indexed payout, uint256 amount);
    event Burned(uint256 amount);

    error NotRegistry(address caller);
    error BalanceTooSmall(address account, uint256 have, uint256 need);
    error LockedTooSmall(address account, uint256 have, uint256 need);
    error NotRegistered(address account);
    /// `free` of the stake is not held; the leases need `need`.
    error FreeStakeTooSmall(uint256 free, uint256 need);
    error Exiting(address provider);
    error StakeHeld(uint256 held);
    /// The token moved `received` where `expected` was asked for; such a deposit into a lock is refused.
    error ReceivedLess(uint256 received, uint256 expected);

    /// @notice Credits `account` with what really arrives of `amount` of the caller's tokens.
    function deposit(address account, uint256 amount) external returns (uint256 received);
    function depositWithPermit(address account, uint256 amount, Permit calldata permit)
        external
        returns (uint256 received);
    /// @notice Sends `amount` of the caller's available balance to the caller.
    function withdraw(uint256 amount) external;
    /// @notice Burns what has been slashed so far. Anyone.
    function burn() external returns (uint256 amount);

    /// @notice JobRegistry: locks `amount` of `account`, pulling what its available balance lacks from its tokens.
    function lock(address account, uint256 amount, Permit calldata permit) external;
    /// @notice ProviderRegistry: adds `amount` to the stake of `provider`, taken as {lock} does.
    function stake(address provider, uint256 amount, Permit calldata permit) external;
    /// @notice JobRegistry: holds `amount` of a provider's free stake.
    function hold(address provider, uint256 amount) external;
    /// @notice JobRegistry: frees `amount` of the held stake.
    function free(address provider, uint256 amount) external;
    /// @notice JobRegistry: frees `amount` of the held stake and takes `bond` of it out of circulation.
    function slash(address provider, uint256 amount, uint256 bond) external;
    /// @notice JobRegistry: pays `paid` of the requester's locked tokens to the provider, gives `refunded` back and frees `freed`
    /// of the provider's held stake, for `batches` that the requester accepted, or that were paid because it kept silent.
    function pay(
        address requester,
        address provider,
        uint256 paid,
        uint256 refunded,
        uint256 freed,
        uint256 batches,
        bool accepted
    ) external;
    /// @notice JobRegistry: gives `amount` of `account`'s locked tokens back.
    function refund(address account, uint256 amount) external;
    /// @notice ProviderRegistry: whether `provider` may take leases.
    function setExiting(address provider, bool exiting) external;
    /// @notice ProviderRegistry: moves stake and earnings to the available balance of `payout`. Nothing may be held.
    function leave(address provider, address payout) external returns (uint256 amount);
    /// @notice ProviderRegistry: sends all that `provider` earned to `payout`.
    function payOut(address provider, address payout) external returns (uint256 amount);

    function balanceOf(address account) external view returns (Balance memory);
    function burnable() external view returns (uint256);
    function token() external view returns (address);
}
