// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IArbiter} from "./interfaces/IArbiter.sol";
import {IDeployment, Part, Settings} from "./interfaces/IDeployment.sol";
import {Answer, Case, CaseState, Dispute, IDisputes, Standing, Verdict} from "./interfaces/IDisputes.sol";
import {IEscrow, Permit} from "./interfaces/IEscrow.sol";
import {IJobRegistry} from "./interfaces/IJobRegistry.sol";
import {IReplicaRegistry} from "./interfaces/IReplicaRegistry.sol";
import {Region} from "./libraries/Region.sol";
import {ResultLeaf, ResultTree} from "./libraries/ResultTree.sol";

/// @title Challenges and demands
/// @dev Bonds and awards are this contract's own available balance in the Escrow; `Case` and `Dispute` say whose they are.
contract Disputes is IDisputes {
    using SafeCast for uint256;

    IEscrow private immutable _ESCROW;
    address private immutable _JOBS;
    address private immutable _REPLICAS;
    IArbiter private immutable _ARBITER;
    uint256 private immutable _RULING_SECONDS;
    uint256 private immutable _CHALLENGE_BOND;
    uint256 private immutable _DEMAND_SECONDS;
    uint256 private immutable _DEMAND_BOND;

    mapping(bytes32 caseId => Case) private _cases;
    mapping(bytes32 result => Dispute) private _disputes;
    /// @inheritdoc IDisputes
    mapping(address account => uint256) public lostBy;

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        Settings memory settings = deployment.settings();
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _JOBS = deployment.addressOf(Part.JobRegistry);
        _REPLICAS = deployment.addressOf(Part.ReplicaRegistry);
        _ARBITER = IArbiter(settings.arbiter);
        _RULING_SECONDS = settings.rulingSeconds;
        _CHALLENGE_BOND = settings.challengeBond;
        _DEMAND_SECONDS = settings.demandSeconds;
        _DEMAND_BOND = settings.demandBond;
    }

    /// @inheritdoc IDisputes
    function challenge(
        address registry,
        bytes calldata standing,
        uint32 task,
        bytes32 commitment,
        Permit calldata permit
    ) external returns (bytes32 caseId) {
        if (address(_ARBITER) == address(0)) revert NoArbiter();
        Standing memory about = _freeze(registry, standing);
        // Padding may be challenged as well: the tree's leaves are a power of two.
        uint256 leaves = 1 << Math.log2(about.tasks, Math.Rounding.Ceil);
        if (task < about.firstTask || task - about.firstTask >= leaves) {
            revert NoSuchTask(task, about.firstTask, about.tasks);
        }
        uint256 deadline = uint256(about.finalAt) + _RULING_SECONDS;
        caseId = _open(about, keccak256(abi.encode(task, commitment)), 0, deadline, _CHALLENGE_BOND, permit);
        // forge-lint: disable-next-line(unsafe-typecast) `_open` stored it.
        emit Challenged(caseId, about.jobId, about.batch, msg.sender, task, commitment, uint40(deadline));
        _ARBITER.open(caseId, about, task, commitment, msg.sender);
    }

    /// @inheritdoc IDisputes
    function rule(bytes32 caseId, bool upheld, address defender) external {
        if (msg.sender != address(_ARBITER)) revert NotArbiter(msg.sender);
        Case storage entry = _openCase(caseId);
        if (entry.demanded != 0) revert WrongCaseState(caseId, entry.state);
        Dispute storage dispute = _disputes[entry.result];
        dispute.open -= 1;
        emit Ruled(caseId, upheld, defender);
        if (upheld) {
            dispute.won += 1;
            entry.state = CaseState.Won;
        } else {
            entry.state = CaseState.Lost;
            lostBy[entry.claimant] += 1;
            _ESCROW.give(defender, _CHALLENGE_BOND / 2, _CHALLENGE_BOND - _CHALLENGE_BOND / 2);
        }
    }

    /// @inheritdoc IDisputes
    function demand(address registry, bytes calldata standing, uint32 task, uint32 chunk, Permit calldata permit)
        external
        returns (bytes32 caseId)
    {
        Standing memory about = _freeze(registry, standing);
        if (msg.sender != about.requester) revert NotRequester(msg.sender, about.requester);
        if (task < about.firstTask || task - about.firstTask >= about.tasks) {
            revert NoSuchTask(task, about.firstTask, about.tasks);
        }
        uint256 deadline = block.timestamp + _DEMAND_SECONDS;
        bytes32 demanded = keccak256(abi.encode(task, chunk));
        caseId = _open(about, demanded, demanded, deadline, _DEMAND_BOND, permit);
        _disputes[_result(about)].demands += 1;
        // forge-lint: disable-next-line(unsafe-typecast) `_open` stored it.
        emit Demanded(caseId, about.jobId, about.batch, task, chunk, uint40(deadline));
    }

    /// @inheritdoc IDisputes
    function answer(bytes32 caseId, Standing calldata standing, Answer calldata given) external {
        Case storage entry = _openCase(caseId);
        bytes32 result = keccak256(abi.encode(standing));
        if (entry.result != result) revert WrongResult(result, entry.result);
        if (entry.demanded != keccak256(abi.encode(given.leaf.index, given.chunk))) revert WrongAnswer();
        if (!_isInResult(standing, given) || !_isInOutput(given)) revert WrongAnswer();
        entry.state = CaseState.Lost;
        lostBy[entry.claimant] += 1;
        Dispute storage dispute = _disputes[result];
        dispute.open -= 1;
        dispute.demands -= 1;
        emit Answered(caseId, msg.sender, given.leaf, given.part);
        _ESCROW.give(msg.sender, _DEMAND_BOND, 0);
    }

    /// @inheritdoc IDisputes
    function conclude(bytes32 result, uint256 award) external returns (Verdict verdict) {
        if (msg.sender != _JOBS && msg.sender != _REPLICAS) revert NotRegistry(msg.sender);
        Dispute storage dispute = _disputes[result];
        uint256 from = dispute.finalAt;
        if (dispute.open != 0) from = Math.max(from, uint256(dispute.deadline) + 1);
        if (block.timestamp < from) revert TooEarly(from);
        dispute.concluded = true;
        uint256 share;
        if (dispute.won != 0) {
            verdict = Verdict.Wrong;
            // What the division leaves stays here.
            share = award / dispute.won;
            dispute.share = share.toUint88();
        } else if (dispute.demands != 0) {
            verdict = Verdict.Withheld;
        }
        emit Concluded(result, verdict, share);
    }

    /// @inheritdoc IDisputes
    function claim(bytes32 caseId) external returns (uint256 amount) {
        Case storage entry = _cases[caseId];
        Dispute storage dispute = _disputes[entry.result];
        if (!dispute.concluded) revert NotConcluded(caseId);
        if (entry.state != CaseState.Open && entry.state != CaseState.Won) revert WrongCaseState(caseId, entry.state);
        amount = entry.demanded == 0 ? _CHALLENGE_BOND : _DEMAND_BOND;
        if (entry.state == CaseState.Won) amount += dispute.share;
        entry.state = CaseState.Closed;
        emit Claimed(caseId, entry.claimant, amount);
        _ESCROW.give(entry.claimant, amount, 0);
    }

    /// @inheritdoc IDisputes
    function caseOf(bytes32 caseId) external view returns (Case memory) {
        return _cases[caseId];
    }

    /// @inheritdoc IDisputes
    function disputeOf(bytes32 result) external view returns (Dispute memory) {
        return _disputes[result];
    }

    /// A result in its window, which cannot be paid from now on.
    function _freeze(address registry, bytes calldata standing) private returns (Standing memory about) {
        bytes4 selector = IJobRegistry.freeze.selector;
        if (registry == _REPLICAS) selector = IReplicaRegistry.freeze.selector;
        else if (registry != _JOBS) revert NotRegistry(registry);
        about = abi.decode(Address.functionCall(registry, bytes.concat(selector, standing)), (Standing));
        if (block.timestamp >= about.finalAt) revert TooLate(about.finalAt);
    }

    function _isInResult(Standing calldata standing, Answer calldata given) private pure returns (bool) {
        return ResultTree.verify(
            standing.root,
            standing.fuel,
            standing.tasks,
            given.leaf.index - standing.firstTask,
            ResultTree.leafHash(given.leaf),
            given.leaf.fuel,
            given.siblingHashes,
            given.siblingFuels
        );
    }

    /// Whether it is the leaf's chunk, or none because the output ends before.
    function _isInOutput(Answer calldata given) private pure returns (bool) {
        uint256 start = uint256(given.chunk) * Region.CHUNK;
        uint256 length = given.leaf.outputLength;
        if (start >= length) return true;
        return given.part.length == Math.min(Region.CHUNK, length - start)
            && Region.verify(given.leaf.outputRoot, given.chunk, given.part, given.chunkSiblings);
    }

    /// `key` makes cases of one claimant about one result differ.
    function _open(
        Standing memory about,
        bytes32 key,
        bytes32 demanded,
        uint256 deadline,
        uint256 bond,
        Permit calldata permit
    ) private returns (bytes32 caseId) {
        bytes32 result = _result(about);
        caseId = keccak256(abi.encode(result, msg.sender, demanded != 0, key));
        if (_cases[caseId].state != CaseState.None) revert CaseExists(caseId);
        _cases[caseId] = Case(msg.sender, deadline.toUint40(), CaseState.Open, result, demanded);
        Dispute storage dispute = _disputes[result];
        dispute.finalAt = about.finalAt;
        // forge-lint: disable-next-line(unsafe-typecast) Cast safely above.
        dispute.deadline = uint40(Math.max(dispute.deadline, deadline));
        dispute.open += 1;
        _ESCROW.collect(msg.sender, bond, permit);
    }

    function _openCase(bytes32 caseId) private view returns (Case storage entry) {
        entry = _cases[caseId];
        if (entry.state != CaseState.Open) revert WrongCaseState(caseId, entry.state);
        if (block.timestamp > entry.deadline) revert TooLate(entry.deadline);
    }

    function _result(Standing memory about) private pure returns (bytes32) {
        return keccak256(abi.encode(about));
    }
}
