// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Test} from "forge-std/Test.sol";
import {Vm} from "forge-std/Vm.sol";

import {Settings} from "../../interfaces/IDeployment.sol";
import {IDisputes} from "../../interfaces/IDisputes.sol";
import {Balance, IEscrow} from "../../interfaces/IEscrow.sol";
import {Contact, IJobRegistry, Spec} from "../../interfaces/IJobRegistry.sol";
import {IProviderRegistry, Provider} from "../../interfaces/IProviderRegistry.sol";
import {IReplicaRegistry} from "../../interfaces/IReplicaRegistry.sol";
import {IToken} from "../Fixture.sol";

/// @notice The contracts that a campaign calls.
struct Parts {
    IToken token;
    IEscrow escrow;
    IProviderRegistry providers;
    IJobRegistry jobs;
    IReplicaRegistry replicas;
    IDisputes disputes;
}

/// @notice Everybody's books, kept apart from the contracts: from their events alone, with the rules written once more.
/// Here: tokens, registrations, exits. What jobs do to them is for who inherits this.
abstract contract Books is Test {
    IToken internal immutable _TOKEN;
    IEscrow internal immutable _ESCROW;
    IProviderRegistry internal immutable _PROVIDERS;
    IJobRegistry internal immutable _JOBS;
    IReplicaRegistry internal immutable _REPLICAS;
    IDisputes internal immutable _DISPUTES;

    address[] public actors;
    Settings internal _settings;
    mapping(address account => Balance) internal _books;
    mapping(address account => Provider) private _registrations;
    uint256 public burnable;
    uint256 public burned;
    /// Tokens sent to the Escrow without a call of it.
    uint256 public donated;
    /// A call failed in a way that no interface declares (a panic, or the Escrow's own books being short), or one was
    /// allowed that must not be.
    bytes public broken;

    constructor(Parts memory parts, Settings memory settings, address[] memory accounts) {
        _settings = settings;
        (_TOKEN, _ESCROW, _PROVIDERS) = (parts.token, parts.escrow, parts.providers);
        (_JOBS, _REPLICAS, _DISPUTES) = (parts.jobs, parts.replicas, parts.disputes);
        actors = accounts;
        for (uint256 i = 0; i < accounts.length; ++i) {
            _books[accounts[i]] = parts.escrow.balanceOf(accounts[i]);
            _registrations[accounts[i]] = parts.providers.providerOf(accounts[i]);
        }
    }

    function bookOf(address account) public view returns (Balance memory) {
        return _books[account];
    }

    function registrationOf(address account) public view returns (Provider memory) {
        return _registrations[account];
    }

    /// 0 without a registration.
    function payoutOf(address account) public view returns (address) {
        return _registrations[account].payout;
    }

    function spec() public pure returns (Spec memory) {
        bytes32 one = bytes32(uint256(1));
        return Spec(one, one, one, one, 1 << 20, 0);
    }

    /// `logs` of a call by `from`. Tokens that arrive are available first, whatever they are for.
    function _learn(address from, Vm.Log[] memory logs) internal {
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter != address(_TOKEN) || logs[i].topics[0] != IERC20.Transfer.selector) continue;
            if (_address(logs[i].topics[2]) != address(_ESCROW)) continue;
            _books[_address(logs[i].topics[1])].available += uint96(abi.decode(logs[i].data, (uint256)));
        }
        for (uint256 i = 0; i < logs.length; ++i) {
            address emitter = logs[i].emitter;
            if (emitter == address(_JOBS) || emitter == address(_REPLICAS)) _learnOfJob(from, logs[i]);
            else if (emitter == address(_DISPUTES)) _learnOfCase(from, logs[i]);
            else if (emitter == address(_PROVIDERS)) _learnOfProvider(from, logs[i]);
            else if (emitter == address(_ESCROW)) _learnOfEscrow(from, logs[i]);
        }
    }

    function _learnOfJob(address from, Vm.Log memory log) internal virtual;

    function _learnOfCase(address from, Vm.Log memory log) internal virtual;

    function _learnOfEscrow(address from, Vm.Log memory log) private {
        bytes32 topic = log.topics[0];
        if (topic == IEscrow.Burned.selector) {
            uint256 sum = abi.decode(log.data, (uint256));
            _check(sum == burnable, "all that is burnable");
            (burnable, burned) = (0, burned + sum);
            return;
        }
        address account = _address(log.topics[1]);
        uint256 amount = abi.decode(log.data, (uint256));
        if (topic == IEscrow.Deposited.selector) {
            _check(account == from, "the caller's tokens");
            _books[account].available -= uint96(amount);
            _books[_address(log.topics[2])].available += uint96(amount);
        } else if (topic == IEscrow.Withdrawn.selector) {
            _check(account == from, "the caller's balance");
            _books[account].available -= uint96(amount);
        } else if (topic == IEscrow.PaidOut.selector) {
            _check(_address(log.topics[2]) == payoutOf(account), "earnings go to the payout address");
            _check(from == account || from == payoutOf(account), "earnings move at their owner's word");
            _check(amount == _books[account].earned, "all that was earned");
            _books[account].earned = 0;
        } else {
            _check(false, "an event of the Escrow");
        }
    }

    function _learnOfProvider(address from, Vm.Log memory log) private {
        bytes32 topic = log.topics[0];
        address provider = _address(log.topics[1]);
        Balance storage book = _books[provider];
        Provider storage entry = _registrations[provider];
        if (topic == IProviderRegistry.PayoutChanged.selector) {
            _check(from == entry.payout, "the payout address is its own to change");
            entry.payout = abi.decode(log.data, (address));
            return;
        }
        _check(from == provider, "a provider's own call");
        if (topic == IProviderRegistry.ProviderRegistered.selector) {
            (address payout, Contact memory contact, uint256 stake) = abi.decode(log.data, (address, Contact, uint256));
            _check(entry.payout == address(0), "registered once");
            _check(stake >= _settings.minStake, "the least stake");
            entry.payout = payout;
            entry.endpoint = contact.endpoint;
            book.available -= uint96(stake);
            book.stake += uint80(stake);
            book.stakedBlock = uint32(block.number);
        } else if (topic == IProviderRegistry.StakeAdded.selector) {
            uint256 amount = abi.decode(log.data, (uint256));
            book.available -= uint96(amount);
            book.stake += uint80(amount);
            book.stakedBlock = uint32(block.number);
        } else if (topic == IProviderRegistry.ExitRequested.selector) {
            entry.exitAt = abi.decode(log.data, (uint32));
            _check(entry.exitAt == block.timestamp + _settings.exitDelaySeconds, "the exit's delay");
            book.exiting = true;
        } else if (topic == IProviderRegistry.ExitCancelled.selector) {
            (entry.exitAt, book.exiting) = (0, false);
        } else if (topic == IProviderRegistry.ProviderContactChanged.selector) {
            entry.endpoint = abi.decode(log.data, (Contact)).endpoint;
        } else if (topic == IProviderRegistry.ProviderExited.selector) {
            uint256 amount = abi.decode(log.data, (uint256));
            _check(book.held == 0, "nobody leaves while stake is held");
            _check(entry.exitAt != 0 && block.timestamp >= entry.exitAt, "nor before the delay is over");
            _check(amount == uint256(book.stake) + book.earned, "stake and earnings");
            (book.stake, book.earned, book.exiting) = (0, 0, false);
            (book.stakedBlock, book.checks, book.expired, book.failed, book.withheld) = (0, 0, 0, 0, 0);
            _books[entry.payout].available += uint96(amount);
            delete _registrations[provider];
        } else {
            _check(false, "an event of the ProviderRegistry");
        }
    }

    /// A job's deposit, or what of it comes back.
    function _lock(address requester, uint256 amount) internal {
        _books[requester].available -= uint96(amount);
        _books[requester].locked += uint96(amount);
    }

    function _refund(address requester, uint256 amount) internal {
        _books[requester].locked -= uint96(amount);
        _books[requester].available += uint96(amount);
    }

    function _hold(address provider, uint256 amount) internal {
        Balance storage book = _books[provider];
        book.held += uint80(amount);
        _check(book.held <= book.stake, "no more than the stake");
    }

    function _check(bool right, string memory rule) internal {
        if (!right) broken = bytes(rule);
    }

    /// Least of worst x bondBps x 2^expiries and the lease's lock.
    function _bondOf(uint256 worst, uint256 most, uint256 expiries) internal view returns (uint256 bond) {
        bond = worst * _settings.expiryBondBps / 10_000;
        for (uint256 i = 0; i < expiries && bond < most; ++i) {
            bond *= 2;
        }
        return bond < most ? bond : most;
    }

    function _address(bytes32 topic) internal pure returns (address) {
        return address(uint160(uint256(topic)));
    }
}
