// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IDeployment, Part, Settings} from "./interfaces/IDeployment.sol";
import {IEscrow, Permit} from "./interfaces/IEscrow.sol";
import {Contact} from "./interfaces/IJobRegistry.sol";
import {IProviderRegistry, Provider} from "./interfaces/IProviderRegistry.sol";

/// @title Providers and their stake
/// @dev Stake is locked in the Escrow under the provider's own account; this contract keeps how much of it is whose.
contract ProviderRegistry is IProviderRegistry {
    using SafeCast for uint256;

    IEscrow private immutable _ESCROW;
    address private immutable _JOBS;
    uint256 private immutable _MIN_STAKE;
    uint256 private immutable _EXIT_DELAY;

    /// @inheritdoc IProviderRegistry
    uint32 public count;
    /// @inheritdoc IProviderRegistry
    mapping(address account => uint32) public indexOf;
    mapping(uint32 index => Provider) private _providers;

    modifier onlyJobRegistry() {
        if (msg.sender != _JOBS) revert NotJobRegistry(msg.sender);
        _;
    }

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        Settings memory settings = deployment.settings();
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _JOBS = deployment.addressOf(Part.JobRegistry);
        _MIN_STAKE = settings.minStake;
        _EXIT_DELAY = settings.exitDelaySeconds;
    }

    /// @inheritdoc IProviderRegistry
    function register(address payout, Contact calldata contact, uint256 stake, Permit calldata permit)
        external
        returns (uint32 index)
    {
        if (indexOf[msg.sender] != 0) revert AlreadyRegistered(indexOf[msg.sender]);
        if (payout == address(0)) revert ZeroPayout();
        if (contact.endpoint == 0) revert ZeroEndpoint();
        if (stake < _MIN_STAKE) revert StakeTooSmall(stake, _MIN_STAKE);
        index = ++count;
        indexOf[msg.sender] = index;
        Provider storage entry = _providers[index];
        entry.account = msg.sender;
        entry.stake = stake.toUint96();
        entry.payout = payout;
        entry.endpoint = contact.endpoint;
        entry.registeredAt = block.timestamp.toUint40();
        emit ProviderRegistered(index, msg.sender, payout, contact, stake);
        _ESCROW.lock(msg.sender, stake, permit);
    }

    /// @inheritdoc IProviderRegistry
    function setContact(Contact calldata contact) external {
        (uint32 index, Provider storage entry) = _caller();
        if (contact.endpoint == 0) revert ZeroEndpoint();
        entry.endpoint = contact.endpoint;
        emit ProviderContactChanged(index, contact);
    }

    /// @inheritdoc IProviderRegistry
    function setPayout(uint32 index, address payout) external {
        Provider storage entry = _providers[index];
        if (msg.sender != entry.payout) revert NotPayout(msg.sender, entry.payout);
        if (payout == address(0)) revert ZeroPayout();
        entry.payout = payout;
        emit PayoutChanged(index, payout);
    }

    /// @inheritdoc IProviderRegistry
    function addStake(uint256 amount, Permit calldata permit) external {
        (uint32 index, Provider storage entry) = _caller();
        entry.stake += amount.toUint96();
        emit StakeAdded(index, amount, entry.stake);
        _ESCROW.lock(msg.sender, amount, permit);
    }

    /// @inheritdoc IProviderRegistry
    function requestExit() external {
        (uint32 index, Provider storage entry) = _caller();
        if (entry.exitAt != 0) revert Exiting(entry.exitAt);
        entry.exitAt = (block.timestamp + _EXIT_DELAY).toUint40();
        emit ExitRequested(index, entry.exitAt);
    }

    /// @inheritdoc IProviderRegistry
    function cancelExit() external {
        (uint32 index, Provider storage entry) = _caller();
        if (entry.exitAt == 0) revert NotExiting();
        entry.exitAt = 0;
        emit ExitCancelled(index);
    }

    /// @inheritdoc IProviderRegistry
    function exit() external {
        (uint32 index, Provider storage entry) = _caller();
        if (entry.exitAt == 0) revert NotExiting();
        if (block.timestamp < entry.exitAt) revert ExitTooEarly(entry.exitAt);
        if (entry.locked != 0) revert StakeLocked(entry.locked);
        (address payout, uint256 stake) = (entry.payout, entry.stake);
        delete indexOf[msg.sender];
        delete _providers[index];
        // The payout address keeps its right to `withdraw` by its own Escrow call.
        emit ProviderExited(index, stake);
        _ESCROW.settle(msg.sender, payout, stake, 0);
    }

    /// @inheritdoc IProviderRegistry
    function withdraw(uint32 index) external returns (uint256 amount) {
        Provider storage entry = _providers[index];
        if (msg.sender != entry.account && msg.sender != entry.payout) revert NotPayout(msg.sender, entry.payout);
        return _ESCROW.payOut(entry.payout);
    }

    /// @inheritdoc IProviderRegistry
    function lockStake(address account, uint256 amount) external onlyJobRegistry returns (uint32 index) {
        index = indexOf[account];
        if (index == 0) revert NotRegistered(account);
        Provider storage entry = _providers[index];
        if (entry.exitAt != 0) revert Exiting(entry.exitAt);
        uint256 free = entry.stake - entry.locked;
        if (free < amount) revert FreeStakeTooSmall(free, amount);
        entry.locked += amount.toUint96();
    }

    /// @inheritdoc IProviderRegistry
    function unlockStake(uint32 index, uint256 unlocked, uint256 slashed)
        external
        onlyJobRegistry
        returns (address payout)
    {
        Provider storage entry = _providers[index];
        payout = entry.payout;
        entry.locked -= (unlocked + slashed).toUint96();
        if (slashed != 0) {
            entry.stake -= slashed.toUint96();
            emit StakeSlashed(index, slashed, entry.stake);
            _ESCROW.slash(entry.account, slashed);
        }
    }

    /// @inheritdoc IProviderRegistry
    function provider(uint32 index) external view returns (Provider memory) {
        return _providers[index];
    }

    function _caller() private view returns (uint32 index, Provider storage entry) {
        index = indexOf[msg.sender];
        if (index == 0) revert NotRegistered(msg.sender);
        entry = _providers[index];
    }
}
