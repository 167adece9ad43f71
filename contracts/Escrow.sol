// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IDeployment, Part} from "./interfaces/IDeployment.sol";
import {Balance, Consent, IEscrow, Mark, Permit, Share, Voter} from "./interfaces/IEscrow.sol";

/// @title The only contract that holds tokens
/// @dev Needs EIP-1153 (transient storage, Cancun) for its reentrancy guard.
contract Escrow is IEscrow, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    IERC20 private immutable _TOKEN;
    address private immutable _JOBS;
    address private immutable _REPLICAS;
    address private immutable _PROVIDERS;
    address private immutable _DISPUTES;

    mapping(address account => Balance) private _balances;
    /// @inheritdoc IEscrow
    uint256 public burnable;

    modifier only(address registry) {
        if (msg.sender != registry) revert NotRegistry(msg.sender);
        _;
    }

    modifier onlyJobs() {
        if (msg.sender != _JOBS && msg.sender != _REPLICAS) revert NotRegistry(msg.sender);
        _;
    }

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        _TOKEN = IERC20(deployment.addressOf(Part.Token));
        _JOBS = deployment.addressOf(Part.JobRegistry);
        _REPLICAS = deployment.addressOf(Part.ReplicaRegistry);
        _PROVIDERS = deployment.addressOf(Part.ProviderRegistry);
        _DISPUTES = deployment.addressOf(Part.Disputes);
    }

    /// @inheritdoc IEscrow
    function deposit(address account, uint256 amount) external nonReentrant returns (uint256 received) {
        received = _pull(msg.sender, amount);
        _credit(account, received);
    }

    /// @inheritdoc IEscrow
    function depositWithPermit(address account, uint256 amount, Permit calldata permit)
        external
        nonReentrant
        returns (uint256 received)
    {
        _usePermit(msg.sender, permit);
        received = _pull(msg.sender, amount);
        _credit(account, received);
    }

    /// @inheritdoc IEscrow
    function withdraw(uint256 amount) external nonReentrant {
        Balance storage entry = _balances[msg.sender];
        if (entry.available < amount) revert BalanceTooSmall(msg.sender, entry.available, amount);
        entry.available -= amount.toUint96();
        emit Withdrawn(msg.sender, amount);
        _TOKEN.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IEscrow
    function burn() external nonReentrant returns (uint256 amount) {
        amount = burnable;
        burnable = 0;
        emit Burned(amount);
        ERC20Burnable(address(_TOKEN)).burn(amount);
    }

    /// @inheritdoc IEscrow
    function lock(address account, uint256 amount, Permit calldata permit) external onlyJobs nonReentrant {
        Balance storage entry = _take(account, amount, permit);
        entry.locked += amount.toUint96();
    }

    /// @inheritdoc IEscrow
    function stake(address provider, uint256 amount, Permit calldata permit) external only(_PROVIDERS) nonReentrant {
        Balance storage entry = _take(provider, amount, permit);
        entry.stake = (entry.stake + amount).toUint80();
        // Else stake could be moved to where a lot, once known, makes it count most.
        entry.stakedBlock = block.number.toUint32();
    }

    /// @inheritdoc IEscrow
    function hold(address provider, uint256 amount) external onlyJobs {
        _hold(provider, amount);
    }

    /// @inheritdoc IEscrow
    function holdVoter(address provider, uint256 amount) external onlyJobs returns (Voter memory) {
        Balance storage entry = _hold(provider, amount);
        return Voter(entry.stake, entry.stakedBlock, entry.checks);
    }

    /// @inheritdoc IEscrow
    function free(address provider, uint256 amount) external onlyJobs {
        _balances[provider].held -= amount.toUint80();
    }

    /// @inheritdoc IEscrow
    function expire(address provider, uint256 amount, uint256 bond) external onlyJobs {
        Balance storage entry = _balances[provider];
        entry.held -= amount.toUint80();
        entry.stake -= bond.toUint80();
        entry.expired = _more(entry.expired);
        burnable += bond;
    }

    /// @inheritdoc IEscrow
    function pay(
        address requester,
        address provider,
        uint256 paid,
        uint256 refunded,
        uint256 freed,
        uint256 batches,
        bool accepted
    ) external only(_JOBS) {
        Balance storage entry = _unlock(requester, paid + refunded);
        entry.available += refunded.toUint96();
        _record(entry, batches, accepted);
        entry = _balances[provider];
        entry.earned += paid.toUint88();
        entry.held -= freed.toUint80();
    }

    /// @inheritdoc IEscrow
    function refund(address account, uint256 amount) external onlyJobs {
        _unlock(account, amount).available += amount.toUint96();
    }

    /// @inheritdoc IEscrow
    function settle(
        address requester,
        uint256 refunded,
        uint256 burned,
        uint256 award,
        Consent consent,
        Share[] calldata shares
    ) external onlyJobs {
        uint256 unlocked = refunded + burned;
        for (uint256 i = 0; i < shares.length; ++i) {
            Share calldata share = shares[i];
            Balance storage entry = _balances[share.provider];
            entry.earned += share.paid.toUint88();
            entry.held -= (share.freed + share.slashed).toUint80();
            entry.stake -= share.slashed.toUint80();
            if (share.mark == Mark.Checked) entry.checks = _more(entry.checks);
            else if (share.mark == Mark.Failed) (entry.checks, entry.failed) = (0, _more(entry.failed));
            else if (share.mark == Mark.Withheld) entry.withheld = _more(entry.withheld);
            unlocked += share.paid;
            burned += share.slashed;
        }
        Balance storage payer = _unlock(requester, unlocked);
        payer.available += refunded.toUint96();
        if (consent != Consent.None) _record(payer, 1, consent == Consent.Accepted);
        if (award != 0) _balances[_DISPUTES].available += award.toUint96();
        if (burned != award) burnable += burned - award;
    }

    /// @inheritdoc IEscrow
    function collect(address account, uint256 amount, Permit calldata permit) external only(_DISPUTES) nonReentrant {
        _take(account, amount, permit);
        _balances[_DISPUTES].available += amount.toUint96();
    }

    /// @inheritdoc IEscrow
    function give(address account, uint256 amount, uint256 burned) external only(_DISPUTES) {
        _balances[_DISPUTES].available -= (amount + burned).toUint96();
        _balances[account].available += amount.toUint96();
        if (burned != 0) burnable += burned;
    }

    /// @inheritdoc IEscrow
    function setExiting(address provider, bool exiting) external only(_PROVIDERS) {
        _balances[provider].exiting = exiting;
    }

    /// @inheritdoc IEscrow
    function leave(address provider, address payout) external only(_PROVIDERS) nonReentrant returns (uint256 amount) {
        Balance storage entry = _balances[provider];
        if (entry.held != 0) revert StakeHeld(entry.held);
        amount = uint256(entry.stake) + entry.earned;
        (entry.stake, entry.earned, entry.exiting) = (0, 0, false);
        (entry.stakedBlock, entry.checks, entry.expired, entry.failed, entry.withheld) = (0, 0, 0, 0, 0);
        _balances[payout].available += amount.toUint96();
    }

    /// @inheritdoc IEscrow
    function payOut(address provider, address payout) external only(_PROVIDERS) nonReentrant returns (uint256 amount) {
        amount = _balances[provider].earned;
        _balances[provider].earned = 0;
        emit PaidOut(provider, payout, amount);
        _TOKEN.safeTransfer(payout, amount);
    }

    /// @inheritdoc IEscrow
    function balanceOf(address account) external view returns (Balance memory) {
        return _balances[account];
    }

    /// @inheritdoc IEscrow
    function token() external view returns (address) {
        return address(_TOKEN);
    }

    /// A permit that was used before (a front-runner may send it first) leaves the allowance it gave: only that counts.
    function _usePermit(address owner, Permit calldata permit) private {
        if (permit.deadline == 0) return;
        try IERC20Permit(address(_TOKEN))
            .permit(owner, address(this), permit.value, permit.deadline, permit.v, permit.r, permit.s) {}
            catch {}
    }

    function _pull(address from, uint256 amount) private returns (uint256 received) {
        uint256 before = _TOKEN.balanceOf(address(this));
        _TOKEN.safeTransferFrom(from, address(this), amount);
        received = _TOKEN.balanceOf(address(this)) - before;
    }

    /// Takes `amount` out of `account`'s available balance, and pulls what that lacks from its tokens first. Nothing that was read
    /// before the token's transfer is relied on after it.
    function _take(address account, uint256 amount, Permit calldata permit) private returns (Balance storage entry) {
        entry = _balances[account];
        if (entry.available < amount) {
            uint256 missing = amount - entry.available;
            _usePermit(account, permit);
            uint256 received = _pull(account, missing);
            if (received < missing) revert ReceivedLess(received, missing);
            entry.available += received.toUint96();
        }
        entry.available -= amount.toUint96();
    }

    function _credit(address account, uint256 amount) private {
        _balances[account].available += amount.toUint96();
        emit Deposited(msg.sender, account, amount);
    }

    function _hold(address provider, uint256 amount) private returns (Balance storage entry) {
        entry = _balances[provider];
        (uint80 staked, uint80 held) = (entry.stake, entry.held);
        if (entry.exiting) revert Exiting(provider);
        if (staked == 0) revert NotRegistered(provider);
        if (staked - held < amount) revert FreeStakeTooSmall(staked - held, amount);
        // forge-lint: disable-next-line(unsafe-typecast) It is at most the free stake.
        entry.held = held + uint80(amount);
    }

    function _record(Balance storage entry, uint256 batches, bool accepted) private {
        if (accepted) entry.accepted = uint32(Math.min(entry.accepted + batches, type(uint32).max));
        else entry.timedOut = uint32(Math.min(entry.timedOut + batches, type(uint32).max));
    }

    function _more(uint32 count) private pure returns (uint32) {
        return count == type(uint32).max ? count : count + 1;
    }

    function _unlock(address account, uint256 amount) private returns (Balance storage entry) {
        entry = _balances[account];
        uint96 locked = entry.locked;
        if (locked < amount) revert LockedTooSmall(account, locked, amount);
        // forge-lint: disable-next-line(unsafe-typecast) It is at most `locked`.
        entry.locked = locked - uint96(amount);
    }
}
