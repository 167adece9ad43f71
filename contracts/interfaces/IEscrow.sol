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

/// @notice One account's tokens, token wei, and its record, since a record changes when tokens do.
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
    // slot 2: 5 x 32 bits: the account's record as a provider; counts saturate
    /// Block since when the stake has not grown: lots of later jobs count it.
    uint32 stakedBlock;
    /// Checks passed since the last wrong result: what makes a vote heavier ({IReputation}).
    uint32 checks;
    /// Leases that ran out.
    uint32 expired;
    /// Results that were wrong: challenged, outvoted, or committed and never revealed.
    uint32 failed;
    /// Results whose output was demanded and not shown.
    uint32 withheld;
}

/// @notice What lots and votes depend on: three fields of {Balance}.
struct Voter {
    uint256 stake;
    uint256 stakedBlock;
    uint256 checks;
}

/// @notice What a settled batch adds to a provider's record.
enum Mark {
    None,
    /// Others agreed, at the price of a burned fee: one check more.
    Checked,
    /// One wrong result more, and no checks any longer.
    Failed,
    Withheld
}

/// @notice Why a batch is paid.
enum Consent {
    /// It is not.
    None,
    /// The requester accepted it.
    Accepted,
    /// The requester kept silent until its window was over.
    TimedOut
}

/// @notice What a provider gets when a batch is settled, token wei.
struct Share {
    address provider;
    /// Added to its earnings.
    uint256 paid;
    /// Of its held stake: what it may use again.
    uint256 freed;
    /// Of its held stake: what it loses.
    uint256 slashed;
    Mark mark;
}

/// @title The only contract that holds tokens
/// @notice Conservation: token.balanceOf(escrow) = sum of all available, locked, earned and stake + burnable, always.
/// Locked tokens are moved by the registries of the same deployment only; no owner, no pause, no upgrade.
interface IEscrow {
    /// `amount` token wei of `from` are now in the available balance of `account`.
    event Deposited(address indexed from, address indexed account, uint256 amount);
    /// `amount` token wei left the available balance of `account`.
    event Withdrawn(address indexed account, uint256 amount);
    /// What `account` earned went to its payout address.
    event PaidOut(address indexed account, address indexed payout, uint256 amount);
    /// `amount` token wei of slashed stake, bonds and fees are no more.
    event Burned(uint256 amount);

    /// Only certain parts of the deployment may call this.
    error NotRegistry(address caller);
    /// The available balance is `have`, token wei.
    error BalanceTooSmall(address account, uint256 have, uint256 need);
    /// The locked balance is `have`, token wei. No registry asks for more than it locked.
    error LockedTooSmall(address account, uint256 have, uint256 need);
    /// The account has no stake.
    error NotRegistered(address account);
    /// `free` of the stake is not held; the leases need `need`.
    error FreeStakeTooSmall(uint256 free, uint256 need);
    /// The provider leaves: no new leases.
    error Exiting(address provider);
    /// Leases and open windows hold that much of the stake, token wei.
    error StakeHeld(uint256 held);
    /// The token moved `received` where `expected` was asked for; such a deposit into a lock is refused.
    error ReceivedLess(uint256 received, uint256 expected);

    /// @notice Credits `account` with what really arrives of `amount` of the caller's tokens.
    function deposit(address account, uint256 amount) external returns (uint256 received);
    /// @notice {deposit} after an EIP-2612 permit, which may have been used by somebody else before.
    function depositWithPermit(address account, uint256 amount, Permit calldata permit)
        external
        returns (uint256 received);
    /// @notice Sends `amount` of the caller's available balance to the caller.
    function withdraw(uint256 amount) external;
    /// @notice Burns what has been slashed so far. Anyone.
    function burn() external returns (uint256 amount);

    /// @notice A job registry: locks `amount` of `account`, pulling what its available balance lacks from its tokens.
    function lock(address account, uint256 amount, Permit calldata permit) external;
    /// @notice ProviderRegistry: adds `amount` to the stake of `provider`, taken as {lock} does.
    function stake(address provider, uint256 amount, Permit calldata permit) external;
    /// @notice A job registry: holds `amount` of a provider's free stake.
    function hold(address provider, uint256 amount) external;
    /// @notice The same of a provider that is going to vote.
    function holdVoter(address provider, uint256 amount) external returns (Voter memory);
    /// @notice A job registry: frees `amount` of the held stake.
    function free(address provider, uint256 amount) external;
    /// @notice A job registry: a lease ran out, which frees `amount` of the held stake and takes `bond` of it out of circulation.
    function expire(address provider, uint256 amount, uint256 bond) external;
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
    /// @notice A job registry: gives `amount` of `account`'s locked tokens back.
    function refund(address account, uint256 amount) external;
    /// @notice A job registry: gives each provider its share, the requester `refunded`, Disputes `award` (of what is slashed), and
    /// burns `burned` of the requester's locked tokens and the rest of what is slashed. `consent` goes into the requester's record.
    function settle(
        address requester,
        uint256 refunded,
        uint256 burned,
        uint256 award,
        Consent consent,
        Share[] calldata shares
    ) external;
    /// @notice Disputes: takes `amount` from `account`, as {lock} does, into its own available balance.
    function collect(address account, uint256 amount, Permit calldata permit) external;
    /// @notice Disputes: gives `amount` of its available balance to `account`, and burns `burned` of it.
    function give(address account, uint256 amount, uint256 burned) external;
    /// @notice ProviderRegistry: whether `provider` may take leases.
    function setExiting(address provider, bool exiting) external;
    /// @notice ProviderRegistry: moves stake and earnings to the available balance of `payout`, and forgets the record as a provider.
    /// Nothing may be held.
    function leave(address provider, address payout) external returns (uint256 amount);
    /// @notice ProviderRegistry: sends all that `provider` earned to `payout`.
    function payOut(address provider, address payout) external returns (uint256 amount);

    /// @notice An account's tokens and record; all zero if it has none.
    function balanceOf(address account) external view returns (Balance memory);
    /// @notice What {burn} would burn, token wei.
    function burnable() external view returns (uint256);
    /// @notice The ERC-20 token of the deployment.
    function token() external view returns (address);
}
