// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Vm} from "forge-std/Vm.sol";

import {Answer, CaseState, IDisputes, Standing} from "../../interfaces/IDisputes.sol";
import {IEscrow, Permit} from "../../interfaces/IEscrow.sol";
import {Contact} from "../../interfaces/IJobRegistry.sol";
import {IProviderRegistry} from "../../interfaces/IProviderRegistry.sol";
import {ResultLeaf} from "../../libraries/ResultTree.sol";
import {RegionTree} from "../RegionTree.sol";
import {Cases, GhostCase, GhostDispute} from "./Cases.sol";
import {Proof, Results} from "./Results.sol";

/// @notice The calls that have nothing to do with a registry's batches: registrations, tokens, time, and what becomes of cases.
abstract contract Calls is Cases {
    /// Successful calls by name; of hostile ones, refusals.
    mapping(string call => uint256) public successes;
    bytes32 internal immutable _OUTPUT_ROOT = Results.outputRoot();
    uint256 private _luck;
    /// Of the call that is being learned.
    bytes4 internal _selector;

    /// What the fuzzer gives decides by its hash: it likes small numbers, which would choose the same all the time.
    modifier lucky(uint256 seed) {
        _luck = uint256(keccak256(abi.encode(seed, successes["post"])));
        _;
    }

    function _dice(uint256 sides) internal returns (uint256) {
        _luck = uint256(keccak256(abi.encode(_luck)));
        return _luck % sides;
    }

    function _fuelLimitOf(bytes32 jobId) internal view virtual returns (uint64);

    /// Time alone.
    function pass(uint16 time) external {
        _passTo(block.timestamp + _bound(time, 1, 400));
    }

    /// Keeps up who works: registered, staying, with some stake that is free.
    function provide(uint256 seed) external lucky(seed) {
        address who = _actor(_dice(256));
        for (uint256 i = 0; i < actors.length && _canWork(who); ++i) {
            who = _actor(i);
        }
        bytes memory data = abi.encodeCall(IProviderRegistry.addStake, (1 + _dice(1000e18), _none()));
        string memory name = "addStake";
        if (payoutOf(who) == address(0)) {
            Contact memory contact = Contact(bytes32(uint256(1)), "");
            uint256 stake = _settings.minStake + _dice(1000e18);
            name = "register";
            data = abi.encodeCall(IProviderRegistry.register, (_actor(_dice(256)), contact, stake, _none()));
        } else if (bookOf(who).exiting) {
            (name, data) = ("cancelExit", abi.encodeCall(IProviderRegistry.cancelExit, ()));
        } else if (_dice(4) == 0) {
            return;
        }
        _call(name, who, address(_PROVIDERS), data);
    }

    function _canWork(address who) private view returns (bool) {
        return !_books[who].exiting && _books[who].stake > _books[who].held + 100e18;
    }

    /// Who leaves, or changes its mind.
    function leave(uint256 kind, uint256 who, bool wait) external {
        address provider = _registered(who);
        // Rarely, or nobody would stay to work.
        if (!bookOf(provider).exiting && kind % 3 == 0) {
            _call("requestExit", provider, address(_PROVIDERS), abi.encodeCall(IProviderRegistry.requestExit, ()));
        } else if (kind % 2 == 0) {
            _call("cancelExit", provider, address(_PROVIDERS), abi.encodeCall(IProviderRegistry.cancelExit, ()));
        }
        // Time passes for all: not always.
        if (wait && kind % 3 == 0) _passTo(registrationOf(provider).exitAt);
        _call("exit", provider, address(_PROVIDERS), abi.encodeCall(IProviderRegistry.exit, ()));
    }

    /// What is not part of a batch's life: one entry, so that most calls are
    function aside(uint256 kind, uint256 who, uint256 a, uint256 b) external {
        kind %= 10;
        if (kind == 0) _register(who, a, b);
        else if (kind == 1) _addStake(who, a);
        else if (kind == 2) _setPayout(a, b);
        else if (kind == 3) _withdrawEarnings(who, a);
        else if (kind == 4) _deposit(who, a, b);
        else if (kind == 5) _withdraw(who, a);
        else if (kind == 6) _call("burn", _actor(who), address(_ESCROW), abi.encodeCall(IEscrow.burn, ()));
        else if (kind == 7) _setContact(who, a);
        else if (kind == 8) _setJobContact(a);
        else _donate(who, a);
    }

    function _register(uint256 who, uint256 payout, uint256 stake) private {
        Contact memory contact = Contact(bytes32(uint256(1)), "");
        stake = _bound(stake, _settings.minStake, 3 * uint256(_settings.minStake));
        bytes memory data = abi.encodeCall(IProviderRegistry.register, (_actor(payout), contact, stake, _none()));
        _call("register", _actor(who), address(_PROVIDERS), data);
    }

    function _addStake(uint256 who, uint256 amount) private {
        bytes memory data = abi.encodeCall(IProviderRegistry.addStake, (_bound(amount, 0, 50e18), _none()));
        _call("addStake", _actor(who), address(_PROVIDERS), data);
    }

    function _setPayout(uint256 pick, uint256 payout) private {
        address provider = _actor(pick);
        bytes memory data = abi.encodeCall(IProviderRegistry.setPayout, (provider, _actor(payout)));
        // Nobody has the address 0, which an unregistered account's payout address is.
        address from = payoutOf(provider) == address(0) ? provider : payoutOf(provider);
        _call("setPayout", from, address(_PROVIDERS), data);
    }

    function _setContact(uint256 who, uint256 endpoint) private {
        bytes memory data = abi.encodeCall(IProviderRegistry.setContact, (Contact(bytes32(endpoint | 1), "hint")));
        _call("setContact", _actor(who), address(_PROVIDERS), data);
    }

    function _setJobContact(uint256 pick) internal virtual;

    function _withdrawEarnings(uint256 who, uint256 pick) private {
        address provider = _actor(pick);
        for (uint256 i = 1; i < actors.length && bookOf(provider).earned == 0; ++i) {
            provider = _actor((pick % actors.length) + i);
        }
        // The provider, its payout address or anybody.
        address from = _actor(who);
        if (who % 3 == 0) from = provider;
        else if (who % 3 == 1 && payoutOf(provider) != address(0)) from = payoutOf(provider);
        bytes memory data = abi.encodeCall(IProviderRegistry.withdraw, (provider));
        _call("withdrawEarnings", from, address(_PROVIDERS), data);
    }

    function _deposit(uint256 who, uint256 to, uint256 amount) private {
        bytes memory data = abi.encodeCall(IEscrow.deposit, (_actor(to), _bound(amount, 0, 20e18)));
        _call("deposit", _actor(who), address(_ESCROW), data);
    }

    function _withdraw(uint256 who, uint256 amount) private {
        uint256 available = _ESCROW.balanceOf(_actor(who)).available;
        bytes memory data = abi.encodeCall(IEscrow.withdraw, (_bound(amount, 0, available + available / 16)));
        _call("withdraw", _actor(who), address(_ESCROW), data);
    }

    function _donate(uint256 who, uint256 amount) private {
        amount = _bound(amount, 0, 1e15);
        bytes memory data = abi.encodeCall(IERC20.transfer, (address(_ESCROW), amount));
        if (_call("donate", _actor(who), address(_TOKEN), data)) donated += amount;
    }

    // Cases

    /// The arbiter rules, rightly or wrongly, or who can answers a demand, in time or late, or never.
    function judge(uint256 seed) external lucky(seed) {
        _judge();
    }

    function _judge() internal {
        (bytes32 id, bool any) = _caseIn(CaseState.Open);
        if (!any) return;
        GhostCase memory c = _cases[id];
        if (_dice(4) == 0) _passTo(uint256(c.deadline) + _dice(2));
        if (c.isDemand) _answer(id, c);
        else _rule(id, c);
    }

    function _rule(bytes32 id, GhostCase memory c) private {
        bool upheld = _leavesOf(_disputes[c.dispute].about, Results.RIGHT).length == 0;
        string memory name = upheld ? "rule: won" : "rule: lost";
        if (_dice(4) == 0) (upheld, name) = (!upheld, "rule wrongly");
        bytes memory data = abi.encodeCall(IDisputes.rule, (id, upheld, _actor(_dice(256))));
        address from = _settings.arbiter;
        if (block.timestamp > c.deadline) {
            _refused("rule late", from, address(_DISPUTES), data, IDisputes.TooLate.selector);
        } else if (_dice(8) == 0) {
            from = _actor(_dice(256));
            _refused("rule of another", from, address(_DISPUTES), data, IDisputes.NotArbiter.selector);
        } else {
            _call(name, from, address(_DISPUTES), data);
        }
    }

    function _answer(bytes32 id, GhostCase memory c) private {
        Standing memory about = _disputes[c.dispute].about;
        ResultLeaf[] memory list = _leavesOf(about, type(uint256).max);
        address from = _actor(_dice(256));
        // Nobody has the leaves of what was made up.
        bool madeUp = list.length == 0;
        if (madeUp) list = _kindOf(about, 1);
        Proof memory proof = Results.prove(list, c.task - about.firstTask);
        bool wrong = _dice(4) == 0;
        if (wrong) proof.leaf.exitCode ^= 1;
        bytes32[] memory chunkSiblings;
        if (c.chunk == 0) chunkSiblings = RegionTree.prove(Results.OUTPUT, 0);
        Answer memory given =
            Answer(c.chunk, proof.leaf, proof.hashes, proof.fuels, bytes(Results.OUTPUT), chunkSiblings);
        bytes memory data = abi.encodeCall(IDisputes.answer, (id, about, given));
        if (block.timestamp > c.deadline) {
            _refused("answer late", from, address(_DISPUTES), data, IDisputes.TooLate.selector);
        } else if (wrong || madeUp) {
            _refused("answer wrongly", from, address(_DISPUTES), data, IDisputes.WrongAnswer.selector);
        } else {
            _call("answer", from, address(_DISPUTES), data);
        }
    }

    function claim(uint256 seed) external lucky(seed) {
        if (_caseIds.length == 0) return;
        bytes32 id = _caseIds[_dice(_caseIds.length)];
        for (uint256 i = 0; i < _caseIds.length && !_isClaimable(id); ++i) {
            id = _caseIds[i];
        }
        bool twice = _cases[id].state == CaseState.Closed || _cases[id].state == CaseState.Lost;
        bytes memory data = abi.encodeCall(IDisputes.claim, (id));
        if (!twice || !_disputes[_cases[id].dispute].concluded) {
            _call("claim", _actor(_dice(256)), address(_DISPUTES), data);
        } else {
            _refused("claim again", _actor(_dice(256)), address(_DISPUTES), data, IDisputes.WrongCaseState.selector);
        }
    }

    function _isClaimable(bytes32 id) private view returns (bool) {
        GhostCase storage c = _cases[id];
        return _disputes[c.dispute].concluded && (c.state == CaseState.Open || c.state == CaseState.Won);
    }

    /// Against a result in its window: by anybody that it is wrong, by its requester for one of its outputs.
    function _dispute(address registry, Standing memory about, bytes memory standing) internal {
        bool late = block.timestamp >= about.finalAt;
        uint32 task = about.firstTask + uint32(_dice(about.tasks));
        bool demands = _settings.arbiter == address(0) || _dice(2) == 0;
        address from = _actor(_dice(256));
        bytes memory data;
        if (demands) {
            from = about.requester;
            data = abi.encodeCall(IDisputes.demand, (registry, standing, task, uint32(_dice(2)), _none()));
        } else {
            data = abi.encodeCall(IDisputes.challenge, (registry, standing, task, bytes32(_dice(2)), _none()));
        }
        if (late) _refused("dispute late", from, address(_DISPUTES), data, 0);
        else _call(demands ? "demand" : "challenge", from, address(_DISPUTES), data);
    }

    function _countVerdict(uint256 dispute) internal {
        successes[string.concat("verdict ", vm.toString(uint256(_disputes[dispute].verdict)))] += 1;
    }

    /// A case in `state`, from a place that chance chooses.
    function _caseIn(CaseState state) private returns (bytes32 id, bool any) {
        uint256 count = _caseIds.length;
        uint256 from = count == 0 ? 0 : _dice(count);
        for (uint256 i = 0; i < count; ++i) {
            id = _caseIds[(from + i) % count];
            if (_cases[id].state == state && !_disputes[_cases[id].dispute].concluded) return (id, true);
        }
    }

    function _kindOf(Standing memory about, uint256 kind) internal view returns (ResultLeaf[] memory) {
        return Results.leaves(about.firstTask, about.tasks, _fuelLimitOf(about.jobId), _OUTPUT_ROOT, kind);
    }

    /// The leaves of a result of `kind`, of any if it is above 2; none if the result is not of that kind.
    function _leavesOf(Standing memory about, uint256 kind) internal view returns (ResultLeaf[] memory list) {
        for (uint256 k = kind > 2 ? 0 : kind; k <= (kind > 2 ? 2 : kind); ++k) {
            list = _kindOf(about, k);
            (bytes32 root, uint64 fuel) = Results.root(list);
            if (root == about.root && fuel == about.fuel) return list;
        }
        return new ResultLeaf[](0);
    }

    // Inner

    function _call(string memory name, address from, address to, bytes memory data) internal returns (bool ok) {
        bytes memory answer;
        vm.recordLogs();
        vm.prank(from);
        (ok, answer) = to.call(data);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        if (ok) {
            successes[name] += 1;
            // Tokens that nobody asked the Escrow to take are in no book.
            _selector = bytes4(data);
            if (to != address(_TOKEN)) _learn(from, logs);
            return true;
        }
        bytes4 selector = bytes4(answer);
        bool bookkeeping = selector == IEscrow.LockedTooSmall.selector || selector == IEscrow.NotRegistry.selector
            || selector == SafeCast.SafeCastOverflowedUintDowncast.selector;
        if (answer.length < 4 || selector == bytes4(0x4e487b71) || bookkeeping) broken = bytes.concat(data, answer);
    }

    /// A call that nothing allows: refused with that error, or with any declared one if it is 0.
    function _refused(string memory name, address from, address to, bytes memory data, bytes4 refusal) internal {
        vm.prank(from);
        (bool ok, bytes memory answer) = to.call(data);
        bytes4 selector = bytes4(answer);
        bool wrong = refusal == 0
            ? answer.length < 4 || selector == bytes4(0x4e487b71) || selector == IEscrow.LockedTooSmall.selector
            : selector != refusal;
        if (ok || wrong) broken = bytes.concat(bytes(name), data, answer);
        successes[name] += 1;
    }

    /// To a moment that is still to come, with blocks of twelve seconds.
    function _passTo(uint256 at) internal {
        if (at <= block.timestamp) return;
        vm.roll(block.number + 1 + (at - block.timestamp) / 12);
        vm.warp(at);
    }

    /// Mostly one that is registered, looked for from `pick` on.
    function _registered(uint256 pick) internal view returns (address provider) {
        for (uint256 i = 0; i < actors.length; ++i) {
            provider = _actor(pick % actors.length + i);
            if (payoutOf(provider) != address(0)) break;
        }
    }

    function _actor(uint256 pick) internal view returns (address) {
        return actors[pick % actors.length];
    }

    function _one(uint32 batch) internal pure returns (uint32[] memory batches) {
        batches = new uint32[](1);
        batches[0] = batch;
    }

    function _none() internal pure returns (Permit memory permit) {}
}
