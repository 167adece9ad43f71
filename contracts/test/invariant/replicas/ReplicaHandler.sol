// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settings} from "../../../interfaces/IDeployment.sol";
import {IDisputes, Standing} from "../../../interfaces/IDisputes.sol";
import {Balance} from "../../../interfaces/IEscrow.sol";
import {Contact, Job} from "../../../interfaces/IJobRegistry.sol";
import {IJobRules} from "../../../interfaces/IJobRules.sol";
import {
    Assurance,
    BallotState,
    Commitment,
    IReplicaRegistry,
    Opening,
    ReplicaState,
    ReplicatedJob,
    Reveal,
    Tally,
    Vote
} from "../../../interfaces/IReplicaRegistry.sol";
import {ResultLeaf} from "../../../libraries/ResultTree.sol";
import {Books, Parts} from "../Books.sol";
import {Proof, Results} from "../Results.sol";
import {ReplicaAgreement} from "./ReplicaAgreement.sol";
import {GhostBallot, GhostReplica, Said} from "./ReplicaGhosts.sol";

/// @notice A batch that was looked for.
struct Spot {
    ReplicatedJob job;
    bytes32 id;
    uint32 batch;
    bool any;
}

/// @notice Plays replicated jobs as several accounts that are requesters and providers at once. Calls look for a batch on
/// which they can succeed; a refusal is fine, as long as it is one that the interfaces declare.
contract ReplicaHandler is ReplicaAgreement {
    uint256 internal constant MAX_LIVE_JOBS = 3;
    uint256 private immutable _MAX_JOBS;

    constructor(Parts memory parts, Settings memory settings, address[] memory accounts, uint256 maxJobs)
        Books(parts, settings, accounts)
    {
        _MAX_JOBS = maxJobs;
    }

    // A job's life

    function post(uint256 seed) external lucky(seed) {
        if (_posted.length == _MAX_JOBS || _retire() == MAX_LIVE_JOBS) return;
        Job memory job;
        job.requester = _actor(_dice(256));
        job.nonce = uint64(_posted.length);
        job.spec = keccak256(abi.encode(spec()));
        job.taskCount = uint32(1 + _dice(6));
        job.batchSize = uint32((job.taskCount + 1) / 2 + _dice(2));
        if (job.batchSize > job.taskCount) job.batchSize = job.taskCount;
        job.fuelLimit = uint64(1 + _dice(1e9));
        // Some take most of a stake for one lease.
        job.maxPrice = uint128(1e15 + _dice(_dice(6) == 0 ? 40e18 : 5e18));
        job.rampSeconds = uint32(_dice(2) * (1 + _dice(1000)));
        job.startPrice = job.rampSeconds == 0 ? job.maxPrice : uint128(1 + _dice(job.maxPrice));
        job.leaseSeconds = uint32(300 + _dice(600));
        job.windowSeconds = uint32(50 + _dice(150));
        Assurance memory assurance = _assurance();
        uint32 widen = uint32(1 + _dice(60));
        job.rampStart = uint32(block.timestamp + widen + _dice(60));
        if (assurance.limit > 1) assurance.widenSeconds = widen;
        bytes memory data = _postData(ReplicatedJob(job, assurance));
        string memory name =
            assurance.limit == 1 ? "post alone" : assurance.auditBps != 0 ? "post audited" : "post voted";
        if (!_call(name, job.requester, address(_REPLICAS), data)) return;
        successes["post"] += 1;
        _current.push(_posted.length - 1);
    }

    function _assurance() private returns (Assurance memory a) {
        a.replicas = uint8(1 + _dice(3));
        a.limit = uint8(a.replicas + _dice(3));
        a.revealSeconds = uint32(200 + _dice(500));
        // Not before somebody has them.
        if (_dice(5) == 0 && checksGiven > 2) a.minChecks = 1;
        if (a.limit == 1) return a;
        // Up to what so many newcomers are believed with.
        uint256 most = 4 ** a.limit;
        a.target = uint32(500_000_000 + _dice(1e9 * most / (1 + most) - 500_000_000));
        if (a.limit == a.replicas || a.replicas != 1 && _dice(2) == 0) return a;
        a.auditBps = uint16(_dice(4) == 0 ? 10_000 : 1 + _dice(9_999));
    }

    function cancel(uint256 seed) external lucky(seed) {
        // Rarely, or no job would live long.
        if (_current.length == 0 || _dice(8) != 0) return;
        _cancel(_posted[_current[_dice(_current.length)]]);
    }

    function _cancel(ReplicatedJob memory job) private {
        _call("cancel", job.job.requester, address(_REPLICAS), abi.encodeCall(IReplicaRegistry.cancel, (job)));
    }

    function amend(uint256 seed) external lucky(seed) {
        if (_posted.length == _MAX_JOBS || _current.length == 0 || _dice(2) != 0) return;
        Spot memory s = _spot(_current[_dice(_current.length)]);
        // One more than by posts: its batches are those of another.
        if (_retire() > MAX_LIVE_JOBS || openCountOf(s.id) == 0 && _dice(4) != 0) return;
        ReplicatedJob memory terms = _termsOf(s.job);
        bytes memory data = abi.encodeCall(IReplicaRegistry.amend, (s.job, terms, _none()));
        address from = terms.job.requester;
        if (openCountOf(s.id) == 0) {
            bytes4 reason = isCancelled[s.id] ? IReplicaRegistry.JobIsCancelled.selector : IJobRules.InvalidJob.selector;
            return _refused("amend what is not open", from, address(_REPLICAS), data, reason);
        }
        if (_dice(4) == 0) {
            terms.job.taskCount += 1;
            data = abi.encodeCall(IReplicaRegistry.amend, (s.job, terms, _none()));
            return _refused("amend to other work", from, address(_REPLICAS), data, IJobRules.InvalidJob.selector);
        }
        bool again = _REPLICAS.ballotOf(s.id, 0).isContinued();
        if (!_call("amend", from, address(_REPLICAS), data)) return;
        if (again) successes["amend what continues"] += 1;
        _current.push(_posted.length - 1);
        _leaseAmended(s, _spot(_posted.length - 1));
    }

    /// A job that was amended gives nothing away any more, nor does the new one give what was not open.
    function _leaseAmended(Spot memory old, Spot memory new_) private {
        address who = _actorIn(new_, ReplicaState.None);
        if (who == address(0)) return;
        for (uint32 b = 0; b < _batchCount(old.job); ++b) {
            bool absent = isAbsent[new_.id][b];
            Spot memory s = absent ? new_ : old;
            if (!absent && _ballots[old.id][b].state != BallotState.Open) continue;
            s.batch = b;
            _awaitTurn(s, who);
            string memory name = absent ? "lease of what was not open" : "lease of what was amended";
            bytes memory data = abi.encodeCall(IReplicaRegistry.lease, (s.job, _one(b)));
            _refused(name, who, address(_REPLICAS), data, 0);
        }
    }

    /// Other terms for the same work.
    function _termsOf(ReplicatedJob memory job) private returns (ReplicatedJob memory terms) {
        terms = abi.decode(abi.encode(job), (ReplicatedJob));
        terms.job.nonce = uint64(_posted.length);
        terms.job.maxPrice = uint128(job.job.maxPrice + _dice(1e18));
        if (terms.job.rampSeconds == 0) terms.job.startPrice = terms.job.maxPrice;
        terms.job.leaseSeconds = uint32(300 + _dice(600));
        terms.job.windowSeconds = uint32(50 + _dice(150));
        terms.assurance = _assurance();
        uint32 widen = uint32(1 + _dice(60));
        terms.job.rampStart = uint32(block.timestamp + widen + _dice(60));
        if (terms.assurance.limit > 1) terms.assurance.widenSeconds = widen;
    }

    function lease(uint256 seed) external lucky(seed) {
        Spot memory s = _find(_dice(2) == 0 ? BallotState.Open : BallotState.Committing);
        if (!s.any) return _advance();
        _lease(s, _dice(3) != 0);
    }

    function backUp(uint256 seed) external lucky(seed) {
        Spot memory s = _findLeased();
        if (!s.any) return _advance();
        if (!_isFull(s.id, s.batch)) _lease(s, true);
        address straggler = _actorIn(s, ReplicaState.Leased);
        GhostReplica memory r = _replicas[s.id][s.batch][straggler];
        // Nobody is late before: let half of the lease pass, but not the round.
        if (!r.backup && _dice(4) != 0) _passTo(r.until - s.job.job.leaseSeconds / 2);
        if (openCountOf(s.id) != 0 && _dice(2) == 0) {
            _cancel(s.job);
        }
        address who = _actorIn(s, ReplicaState.None);
        if (who == address(0)) return;
        _awaitTurn(s, who);
        bytes memory data = abi.encodeCall(IReplicaRegistry.backUp, (s.job, s.batch, straggler));
        if (!_call("backUp", who, address(_REPLICAS), data)) return;
        uint256 next = _dice(4);
        if (next == 0) return _expire(s, straggler, true);
        if (next == 2) return _expire(s, who, true);
        if (next != 1) return;
        vm.roll(_replicas[s.id][s.batch][who].until);
        _commit(s, who, _kind());
    }

    function release(uint256 seed) external lucky(seed) {
        Spot memory s = _findLeased();
        if (!s.any || _dice(2) == 0) return _advance();
        _release(s, _actorIn(s, ReplicaState.Leased));
    }

    /// What can only be given back: backups that came too late, and stragglers that their backups beat.
    function releaseBeaten(uint256 seed) external lucky(seed) {
        for (uint256 i = 0; i < _current.length; ++i) {
            Spot memory s = _spot(_current[i]);
            for (s.batch = 0; s.batch < _batchCount(s.job); ++s.batch) {
                for (uint256 a = 0; a < actors.length; ++a) {
                    GhostReplica storage r = _replicas[s.id][s.batch][actors[a]];
                    if (r.state != ReplicaState.Leased || !_isBeaten(s.id, s.batch, r)) continue;
                    if (_dice(2) == 0) return _release(s, actors[a]);
                    bytes memory data = abi.encodeCall(IReplicaRegistry.expire, (s.job, s.batch, actors[a]));
                    _refused(
                        "expire beaten",
                        _other(actors[a]),
                        address(_REPLICAS),
                        data,
                        IReplicaRegistry.SlotTaken.selector
                    );
                    return;
                }
            }
        }
    }

    function expire(uint256 seed) external lucky(seed) {
        Spot memory s = _findLeased();
        if (!s.any || _dice(2) == 0) return _advance();
        _expire(s, _actorIn(s, ReplicaState.Leased), _dice(3) == 0);
    }

    function commit(uint256 seed) external lucky(seed) {
        Spot memory s = _findLeased();
        if (!s.any) return _advance();
        address who = _actorIn(s, ReplicaState.Leased);
        uint256 active = _replicas[s.id][s.batch][who].until;
        if (_replicas[s.id][s.batch][who].backup && active > block.number && _dice(4) != 0) vm.roll(active);
        _commit(s, who, _kind());
    }

    function commitAll(uint256 seed) external lucky(seed) {
        Spot memory s = _findLeased();
        s.any ? _commitAll(s) : _advance();
    }

    function draw(uint256 seed) external lucky(seed) {
        Spot memory s = _find(BallotState.Drawing);
        s.any ? _draw(s) : _advance();
    }

    function reveal(uint256 seed) external lucky(seed) {
        Spot memory s = _find(_dice(2) == 0 ? BallotState.Drawing : BallotState.Revealing);
        if (!s.any) s = _find(BallotState.Revealing);
        if (!s.any) s = _find(BallotState.Committing);
        address maker = s.any ? _actorIn(s, ReplicaState.Committed) : address(0);
        if (maker == address(0)) _advance();
        else _revealOne(s, maker);
    }

    function revealAll(uint256 seed) external lucky(seed) {
        Spot memory s = _find(BallotState.Revealing);
        if (!s.any || !_revealAll(s)) _advance();
    }

    function revealAndAccept(uint256 seed) external lucky(seed) {
        Spot memory s = _find(BallotState.Revealing);
        if (!s.any) return _advance();
        Tally memory tally = tallyOf(s.id, s.batch);
        Reveal[] memory given = new Reveal[](tally.votes.length);
        for (uint256 i = 0; i < given.length; ++i) {
            given[i] = _plans[s.id][s.batch][tally.votes[i].provider];
        }
        bytes memory data = abi.encodeCall(IReplicaRegistry.revealAndAccept, (s.job, given));
        _call("revealAndAccept", s.job.job.requester, address(_REPLICAS), data);
    }

    function accept(uint256 seed) external lucky(seed) {
        Spot memory s = _find(BallotState.Revealing);
        if (!s.any || _dice(2) == 0) return _advance();
        bytes memory data = abi.encodeCall(IReplicaRegistry.accept, (s.job, _tallies(s)));
        _call("accept", s.job.job.requester, address(_REPLICAS), data);
    }

    function finalise(uint256 seed) external lucky(seed) {
        Spot memory s = _find(_dice(4) == 0 ? BallotState.Committing : BallotState.Revealing);
        if (!s.any) return _advance();
        // Waiting for reveals is for later, mostly.
        Said memory said = saidIn(s.id, s.batch);
        bool ripe = said.committed != 0 && said.revealed == said.committed || _dice(12) == 0;
        ripe ? _finalise(s, _dice(2) == 0) : _advance();
    }

    function dispute(uint256 seed) external lucky(seed) {
        Spot memory s = _find(_dice(3) == 0 ? BallotState.Frozen : BallotState.Revealing);
        if (!s.any) s = _find(BallotState.Revealing);
        if (!s.any || !saidIn(s.id, s.batch).accepted) return _advance();
        _challenge(s);
    }

    function _challenge(Spot memory s) private {
        GhostBallot memory g = _ballots[s.id][s.batch];
        Said memory said = saidIn(s.id, s.batch);
        if (g.state == BallotState.Revealing && said.revealed != said.committed) {
            _passTo(uint256(g.time) + 1);
            g = _ballots[s.id][s.batch];
        }
        Standing memory about = _standingOf(s.id, s.batch);
        if (g.state == BallotState.Frozen) about = _disputes[_disputeAbout[s.id][s.batch] - 1].about;
        _dispute(address(_REPLICAS), about, abi.encode(s.job, tallyOf(s.id, s.batch)));
    }

    function resolve(uint256 seed) external lucky(seed) {
        Spot memory s = _find(BallotState.Frozen);
        s.any ? _resolve(s, _dice(2) == 0) : _advance();
    }

    /// Whatever a batch needs next, by all that it takes: so that many reach their end.
    function advance(uint256 seed) external lucky(seed) {
        _advance();
    }

    function advanceMore(uint256 seed) external lucky(seed) {
        _advance();
        _advance();
        _advance();
    }

    function _advance() private {
        if (_posted.length == 0) return;
        Spot memory s;
        // What must be revealed in time is first, mostly.
        uint256 first = _dice(2) == 0 ? uint256(BallotState.Revealing) : _dice(5);
        for (uint256 i = 0; i < 5 && !s.any; ++i) {
            s = _find(BallotState((first + i) % 5));
        }
        if (!s.any) return;
        BallotState state = _ballots[s.id][s.batch].state;
        if (state == BallotState.Open) {
            // Nobody is left who could take it.
            if (_actorIn(s, ReplicaState.None) == address(0)) _cancel(s.job);
            else _lease(s, true);
        } else if (state == BallotState.Committing) {
            _serve(s);
        } else if (state == BallotState.Drawing) {
            if (_dice(3) == 0) _revealOne(s, tallyOf(s.id, s.batch).votes[0].provider);
            else _draw(s);
        } else if (state == BallotState.Frozen) {
            if (_dice(3) == 0) _resolve(s, true);
            else _judge();
        } else {
            Said memory said = saidIn(s.id, s.batch);
            if (said.accepted && said.revealed == said.committed) {
                // Somebody is there who knows the right result.
                bool wrong = _leavesOf(_standingOf(s.id, s.batch), Results.RIGHT).length == 0;
                if (wrong || _dice(2) == 0) return _challenge(s);
            }
            bool awaits = said.revealed != said.committed && block.timestamp <= _ballots[s.id][s.batch].time;
            if (!awaits || !_revealAll(s)) _finalise(s, true);
        }
    }

    function _serve(Spot memory s) private {
        GhostBallot memory g = _ballots[s.id][s.batch];
        (uint256 held, uint256 committed, uint256 revealed) = countsOf(s.id, s.batch);
        if (block.timestamp > g.time) {
            for (uint256 a = 0; a < actors.length && held != 0; ++a) {
                if (_replicas[s.id][s.batch][actors[a]].state == ReplicaState.Leased) _expire(s, actors[a], true);
            }
            if (held != 0 || committed == 0) return;
            if (isShort(s.id, s.batch)) _draw(s);
            else if (revealed == 0 && block.timestamp <= g.time + s.job.assurance.revealSeconds) _revealAll(s);
            else _finalise(s, true);
        } else if (held + committed < g.wanted && _dice(4) != 0 && _actorIn(s, ReplicaState.None) != address(0)) {
            _lease(s, true);
        } else if (held != 0) {
            _commitAll(s);
        } else {
            // Nobody is left who could take the slot.
            _finalise(s, true);
        }
    }

    // One step

    function _lease(Spot memory s, bool wait) internal {
        address who = _actorIn(s, ReplicaState.None);
        if (who == address(0)) who = _actor(_dice(256));
        if (wait) _awaitTurn(s, who);
        uint32[] memory batches = _one(s.batch);
        if (_dice(4) == 0) {
            batches = new uint32[](2);
            (batches[0], batches[1]) = (s.batch, (s.batch + 1) % _batchCount(s.job));
        }
        bool extra = _ballots[s.id][s.batch].openedBlock != 0;
        bool ok = _call("lease", who, address(_REPLICAS), abi.encodeCall(IReplicaRegistry.lease, (s.job, batches)));
        if (ok && extra) successes["lease of an extra round"] += 1;
        if (ok && batches.length == 2) successes["lease two"] += 1;
    }

    function _release(Spot memory s, address who) private {
        bool beaten = _isBeaten(s.id, s.batch, _replicas[s.id][s.batch][who]);
        bytes memory data = abi.encodeCall(IReplicaRegistry.release, (s.job, _one(s.batch)));
        _call(beaten ? "release beaten" : "release", who, address(_REPLICAS), data);
    }

    function _expire(Spot memory s, address who, bool wait) private {
        GhostReplica memory r = _replicas[s.id][s.batch][who];
        uint256 round = _ballots[s.id][s.batch].time;
        if (wait) _passTo((r.backup || r.until > round ? round : r.until) + 1);
        bytes memory data = abi.encodeCall(IReplicaRegistry.expire, (s.job, s.batch, who));
        string memory name = r.backup ? "expire a backup" : r.rival != address(0) ? "expire a straggler" : "expire";
        _call(name, _actor(_dice(256)), address(_REPLICAS), data);
    }

    function _commitAll(Spot memory s) private {
        uint256 kind = _kind();
        for (uint256 a = 0; a < actors.length; ++a) {
            if (_replicas[s.id][s.batch][actors[a]].state != ReplicaState.Leased) continue;
            // Mostly they agree.
            _commit(s, actors[a], _dice(4) == 0 ? _kind() : kind);
        }
        if (_ballots[s.id][s.batch].state == BallotState.Revealing && _dice(4) != 0) _revealAll(s);
    }

    /// Kinds 0 to 2 have leaves; 3 is made up, 4 cannot be revealed, 5 burned more than it may, 6 is another's commitment.
    function _kind() private returns (uint256) {
        uint256 luck = _dice(100);
        if (luck < 68) return Results.RIGHT;
        return luck < 78 ? 1 : luck < 86 ? 2 : luck < 90 ? 3 : luck < 94 ? 4 : luck < 96 ? 5 : 6;
    }

    function _commit(Spot memory s, address who, uint256 kind) private {
        Reveal memory plan = Reveal(s.batch, who, 0, 0, keccak256("outputs"), 0, bytes32(_dice(type(uint256).max)));
        if (kind < 3) {
            ResultLeaf[] memory list = _leaves(s, kind);
            (plan.root, plan.fuel) = Results.root(list);
            (,, uint256 revealed) = countsOf(s.id, s.batch);
            if (revealed != 0) plan.bound = Results.bound(list, who);
        } else if (kind == 3 || kind == 5) {
            uint256 most = _tasksIn(s.job, s.batch) * s.job.job.fuelLimit;
            (plan.root, plan.fuel) = (keccak256("made up"), uint64(kind == 3 ? most : most + 1));
        }
        Commitment[] memory list_ = new Commitment[](1);
        list_[0] = Commitment(s.batch, _commitmentOf(s.id, plan));
        if (kind == 6) {
            address maker = _actorIn(s, ReplicaState.Committed);
            list_[0].hash = _replicas[s.id][s.batch][maker].hash;
            plan = _plans[s.id][s.batch][maker];
            plan.provider = who;
        }
        GhostReplica memory r = _replicas[s.id][s.batch][who];
        bytes memory data = abi.encodeCall(IReplicaRegistry.commit, (s.job, list_));
        if (!_call("commit", who, address(_REPLICAS), data)) return;
        _plans[s.id][s.batch][who] = plan;
        if (r.backup && r.rival != address(0)) successes["commit of a backup"] += 1;
        else if (r.rival != address(0)) successes["commit of a straggler"] += 1;
        if (_replicas[s.id][s.batch][who].isPublic) successes["commit of an extra round"] += 1;
        if (kind != 0) successes["commit what is wrong"] += 1;
    }

    function _commitmentOf(bytes32 id, Reveal memory g) internal pure returns (bytes32) {
        return keccak256(abi.encode(id, g.batch, g.provider, g.root, g.fuel, g.outputs, g.bound, g.salt));
    }

    function _draw(Spot memory s) private {
        bool short = isShort(s.id, s.batch);
        uint256 from = lastCommitOf(s.id, s.batch);
        if (block.number < from + 2 && _dice(4) != 0) vm.roll(from + 2);
        bytes memory data = abi.encodeCall(IReplicaRegistry.draw, (s.job, s.batch));
        if (!_call("draw", _actor(_dice(256)), address(_REPLICAS), data)) return;
        bool drawn = _ballots[s.id][s.batch].drawn;
        successes[short ? "drawn for want of commits" : drawn ? "drawn" : "not drawn"] += 1;
        if (drawn && s.job.assurance.replicas > 1) successes["audit of a vote"] += 1;
    }

    function _revealOne(Spot memory s, address maker) private returns (bool) {
        address from = _dice(2) == 0 ? maker : _other(maker);
        GhostReplica memory r = _replicas[s.id][s.batch][maker];
        bool drawing = _ballots[s.id][s.batch].state == BallotState.Drawing;
        if ((r.isPublic || drawing) && block.number < r.commitBlock + 2 && _dice(4) != 0) vm.roll(r.commitBlock + 2);
        Reveal[] memory given = new Reveal[](1);
        given[0] = _plans[s.id][s.batch][maker];
        if (r.isPublic) {
            // Whose root was public shows that it has the leaves.
            bytes memory plain = abi.encodeCall(IReplicaRegistry.reveal, (s.job, given));
            _refused("reveal without a leaf", from, address(_REPLICAS), plain, 0);
            return _revealOpened(s, from, maker);
        }
        string memory name = from == maker ? "reveal" : "reveal of another";
        if (!_call(name, from, address(_REPLICAS), abi.encodeCall(IReplicaRegistry.reveal, (s.job, given)))) {
            return false;
        }
        if (drawing) successes["reveal without a draw"] += 1;
        return true;
    }

    function _revealOpened(Spot memory s, address from, address maker) private returns (bool) {
        Reveal memory given = _plans[s.id][s.batch][maker];
        GhostReplica memory r = _replicas[s.id][s.batch][maker];
        ResultLeaf[] memory list;
        for (uint256 kind = 0; kind < 3; ++kind) {
            list = _leaves(s, kind);
            (bytes32 root,) = Results.root(list);
            if (root == given.root) break;
        }
        bytes32 hash = blockhash(uint256(r.commitBlock) + 1);
        uint256 position = uint256(keccak256(abi.encode(hash, s.id, s.batch, maker))) % list.length;
        bytes memory data = _openingData(s, given, list, position);
        if (list.length > 1) {
            bytes memory other = _openingData(s, given, list, (position + 1) % list.length);
            _refused("reveal with another leaf", from, address(_REPLICAS), other, 0);
        }
        return _call("revealOpened", from, address(_REPLICAS), data);
    }

    function _openingData(Spot memory s, Reveal memory given, ResultLeaf[] memory list, uint256 position)
        private
        pure
        returns (bytes memory)
    {
        Proof memory proof = Results.prove(list, position);
        (, bytes32[] memory siblings) = Results.bound(list, given.provider, position);
        Opening memory opening = Opening(proof.leaf, proof.hashes, proof.fuels, siblings);
        return abi.encodeCall(IReplicaRegistry.revealOpened, (s.job, given, opening));
    }

    /// All that committed plainly in one call, as far as what they committed to can be shown.
    function _revealAll(Spot memory s) private returns (bool any) {
        Vote[] memory votes = tallyOf(s.id, s.batch).votes;
        Reveal[] memory given = new Reveal[](votes.length);
        uint256 count;
        for (uint256 i = 0; i < votes.length; ++i) {
            address maker = votes[i].provider;
            GhostReplica memory r = _replicas[s.id][s.batch][maker];
            Reveal memory plan = _plans[s.id][s.batch][maker];
            bool can = plan.root != 0 && plan.fuel <= _tasksIn(s.job, s.batch) * s.job.job.fuelLimit
                && _commitmentOf(s.id, plan) == r.hash;
            if (r.state != ReplicaState.Committed || !can) continue;
            if (r.isPublic) any = _revealOne(s, maker);
            // Some keep silent.
            else if (_dice(12) != 0) given[count++] = plan;
        }
        if (count == 0) return any;
        assembly ("memory-safe") {
            mstore(given, count)
        }
        string memory name = count == 1 ? "reveal" : "reveal several";
        return
            _call(name, _actor(_dice(256)), address(_REPLICAS), abi.encodeCall(IReplicaRegistry.reveal, (s.job, given)));
    }

    function _finalise(Spot memory s, bool wait) private {
        GhostBallot memory g = _ballots[s.id][s.batch];
        Said memory said = saidIn(s.id, s.batch);
        if (wait) {
            uint256 at = g.time;
            bool silent = g.state == BallotState.Committing || said.revealed != said.committed;
            if (silent) at += 1 + (said.accepted ? s.job.job.windowSeconds : 0);
            if (g.state == BallotState.Committing && said.revealed == 0) at += s.job.assurance.revealSeconds;
            _passTo(at);
        }
        bytes memory data = abi.encodeCall(IReplicaRegistry.finalise, (s.job, _tallies(s)));
        if (!_call("finalise", _actor(_dice(256)), address(_REPLICAS), data)) return;
        BallotState now_ = _ballots[s.id][s.batch].state;
        if (now_ == BallotState.Settled) successes[said.agreed > 1 ? "settle a vote" : "settle one"] += 1;
        else if (now_ == BallotState.Undecided) successes["undecided"] += 1;
        else if (now_ == BallotState.Open) successes["nobody revealed"] += 1;
        else successes["extra round"] += 1;
        if (now_ == BallotState.Settled && said.agreed != said.committed) successes["settle against some"] += 1;
    }

    function _resolve(Spot memory s, bool wait) private {
        uint256 at = resolvableAt(s.id, s.batch);
        if (wait) _passTo(at);
        bytes memory data = abi.encodeCall(IReplicaRegistry.resolve, (s.job, tallyOf(s.id, s.batch)));
        address from = _actor(_dice(256));
        uint256 about = _disputeAbout[s.id][s.batch] - 1;
        if (block.timestamp < at) {
            _refused("resolve early", from, address(_REPLICAS), data, IDisputes.TooEarly.selector);
        } else if (_call("resolve", from, address(_REPLICAS), data)) {
            _countVerdict(about);
        }
    }

    // Inner

    function _setJobContact(uint256 pick) internal override {
        if (_posted.length == 0) return;
        ReplicatedJob memory job = _posted[pick % _posted.length];
        bytes memory data = abi.encodeCall(IReplicaRegistry.setContact, (job, Contact(0, "")));
        _call("setJobContact", job.job.requester, address(_REPLICAS), data);
    }

    function _postData(ReplicatedJob memory job) internal pure returns (bytes memory) {
        return abi.encodeCall(IReplicaRegistry.post, (job, spec(), Contact(bytes32(uint256(1)), ""), _none()));
    }

    /// To the moment at which the lot lets `who` lease.
    function _awaitTurn(Spot memory s, address who) internal {
        GhostBallot memory g = _ballots[s.id][s.batch];
        uint256 opened = g.openedBlock == 0 ? postBlockOf[s.id] : g.openedBlock;
        if (block.number < opened + 2) vm.roll(opened + 2);
        _passTo(_REPLICAS.opensAt(s.job, s.batch, who));
    }

    function _tallies(Spot memory s) internal view returns (Tally[] memory list) {
        list = new Tally[](1);
        list[0] = tallyOf(s.id, s.batch);
    }

    function _leaves(Spot memory s, uint256 kind) internal view returns (ResultLeaf[] memory) {
        uint32 first = s.batch * s.job.job.batchSize;
        uint32 tasks = uint32(_tasksIn(s.job, s.batch));
        return Results.leaves(first, tasks, s.job.job.fuelLimit, _OUTPUT_ROOT, kind);
    }

    /// Forgets the jobs of which nothing can change any more. Returns how many have a batch that is not final.
    function _retire() private returns (uint256 live) {
        for (uint256 i = _current.length; i > 0; --i) {
            (bool isLive, bool isOver) = _lifeOf(_spot(_current[i - 1]));
            if (isLive) ++live;
            if (!isOver) continue;
            _current[i - 1] = _current[_current.length - 1];
            _current.pop();
        }
    }

    /// Whether a batch is not final, and whether nobody holds stake for the job any more.
    function _lifeOf(Spot memory s) private view returns (bool isLive, bool isOver) {
        isOver = true;
        for (uint32 batch = 0; batch < _batchCount(s.job); ++batch) {
            BallotState state = _ballots[s.id][batch].state;
            if (state == BallotState.Open ? !_isClosed(s.id, batch) : state < BallotState.Settled) isLive = true;
            for (uint256 a = 0; a < actors.length; ++a) {
                if (_replicas[s.id][batch][actors[a]].state == ReplicaState.Leased) isOver = false;
            }
        }
        isOver = isOver && !isLive;
    }

    function _spot(uint256 i) internal view returns (Spot memory s) {
        s.job = _posted[i];
        s.id = idOf(s.job);
    }

    /// A batch in `state`, from a place that chance chooses.
    function _find(BallotState state) internal returns (Spot memory s) {
        uint256 count = _current.length;
        if (count == 0) return s;
        (uint256 from, uint256 first) = (_dice(count), _dice(256));
        for (uint256 i = 0; i < count; ++i) {
            s = _spot(_current[(from + i) % count]);
            uint32 batches = _batchCount(s.job);
            for (uint32 k = 0; k < batches; ++k) {
                s.batch = uint32((first + k) % batches);
                s.any =
                    _ballots[s.id][s.batch].state == state && !(state == BallotState.Open && _isClosed(s.id, s.batch));
                if (s.any) return s;
            }
        }
    }

    /// A batch that somebody has leased.
    function _findLeased() internal returns (Spot memory s) {
        for (uint256 tries = 0; tries < 3; ++tries) {
            s = _find(BallotState.Committing);
            s.any = s.any && _actorIn(s, ReplicaState.Leased) != address(0);
            if (s.any) return s;
        }
    }

    /// Somebody whose work on the batch is in `state`; 0 for nobody. Who is to lease is mostly registered, with some stake left.
    function _actorIn(Spot memory s, ReplicaState state) internal returns (address who) {
        uint256 from = _dice(actors.length);
        uint256 lock = state == ReplicaState.None ? _leaseLockOf(s.job, s.batch) : 0;
        for (uint256 i = 0; i < actors.length; ++i) {
            who = _actor(from + i);
            if (_replicas[s.id][s.batch][who].state != state) continue;
            if (lock != 0 && !_canLease(who, lock, s.job.assurance.minChecks)) continue;
            return who;
        }
        return address(0);
    }

    function _canLease(address who, uint256 lock, uint256 checks) private view returns (bool) {
        Balance storage book = _books[who];
        return !book.exiting && book.stake >= lock + book.held && book.checks >= checks;
    }

    function _other(address who) internal returns (address other) {
        uint256 from = _dice(actors.length);
        other = _actor(from) == who ? _actor(from + 1) : _actor(from);
    }
}
