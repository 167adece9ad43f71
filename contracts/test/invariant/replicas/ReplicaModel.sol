// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "forge-std/Vm.sol";

import {Verdict} from "../../../interfaces/IDisputes.sol";
import {Balance, Consent} from "../../../interfaces/IEscrow.sol";
import {Contact, Spec} from "../../../interfaces/IJobRegistry.sol";
import {
    BallotState,
    IReplicaRegistry,
    ReplicaState,
    ReplicatedJob,
    Reveal
} from "../../../interfaces/IReplicaRegistry.sol";
import {GhostBallot, GhostReplica, ReplicaGhosts, Said} from "./ReplicaGhosts.sol";

/// @notice The end of a batch, while its votes are gone through.
struct Ending {
    BallotState state;
    Verdict verdict;
    uint256 lock;
    uint256 paid;
    uint256 fee;
    uint256 lost;
}

/// @notice What {IReplicaRegistry-BatchEnded} tells of a batch.
struct Ended {
    uint32 batch;
    BallotState state;
    bytes32 root;
    uint64 fuel;
    uint256 refund;
    uint256 fee;
    Consent consent;
}

/// @notice The books of replicated jobs, from their events: batches, replicas, votes, and what they do to balances.
abstract contract ReplicaModel is ReplicaGhosts {
    function _learnOfJob(address from, Vm.Log memory log) internal override {
        bytes32 topic = log.topics[0];
        bytes32 id = log.topics[1];
        if (topic == IReplicaRegistry.ReplicatedJobPosted.selector) {
            _onPosted(id, from, log);
        } else if (topic == IReplicaRegistry.JobContactChanged.selector) {
            _check(from == _requesterOf(id), "by its requester");
        } else if (topic == IReplicaRegistry.ReplicatedJobAmended.selector) {
            _onAmended(id, from, log);
        } else if (topic == IReplicaRegistry.JobCancelled.selector) {
            _onCancelled(id, from, log);
        } else if (topic == IReplicaRegistry.BatchCancelled.selector) {
            _onBatchCancelled(id, log);
        } else if (topic == IReplicaRegistry.ReplicasLeased.selector) {
            _onLeased(id, from, log);
        } else if (topic == IReplicaRegistry.BackupLeased.selector) {
            _onBackedUp(id, from, log);
        } else if (topic == IReplicaRegistry.LeaseReleased.selector) {
            _onReleased(id, from, log);
        } else if (topic == IReplicaRegistry.LeaseExpired.selector) {
            _onExpired(id, log);
        } else if (topic == IReplicaRegistry.Committed.selector) {
            _onCommitted(id, from, log);
        } else if (topic == IReplicaRegistry.Drawn.selector) {
            _onDrawn(id, log);
        } else if (topic == IReplicaRegistry.Revealed.selector) {
            _onRevealed(id, log);
        } else if (topic == IReplicaRegistry.AllRevealed.selector) {
            _onAllRevealed(id, log);
        } else if (topic == IReplicaRegistry.RoundOpened.selector) {
            _onRoundOpened(id, log);
        } else if (topic == IReplicaRegistry.ReplicaSlashed.selector) {
            _onSlashed(id, log);
        } else if (topic == IReplicaRegistry.BatchEnded.selector) {
            _onEnded(id, from, log);
        } else if (topic == IReplicaRegistry.BatchFrozen.selector) {
            _onBatchFrozen(id, log);
        } else if (topic == IReplicaRegistry.BatchResolved.selector) {
            _onBatchResolved(id, log);
        } else {
            _check(false, "an event of the ReplicaRegistry");
        }
    }

    function _onPosted(bytes32 id, address from, Vm.Log memory log) private {
        (ReplicatedJob memory job, Spec memory given,, uint256 deposit) =
            abi.decode(log.data, (ReplicatedJob, Spec, Contact, uint256));
        _check(_numbers[id] == 0 && id == idOf(job), "a job is posted once, under its hash");
        _check(from == job.job.requester && _address(log.topics[2]) == from, "by its requester");
        _check(job.job.spec == keccak256(abi.encode(given)), "spec");
        uint256 need;
        for (uint32 b = 0; b < _batchCount(job); ++b) {
            need += _costOf(job, b);
        }
        _check(deposit == need, "all that its batches may cost");
        _posted.push(job);
        (_numbers[id], postBlockOf[id]) = (_posted.length, block.number);
        _lock(from, deposit);
    }

    /// The cancellation was told just before: the fee of a new lot is in it.
    function _onAmended(bytes32 old, address from, Vm.Log memory log) private {
        (ReplicatedJob memory terms, uint256 deposit) = abi.decode(log.data, (ReplicatedJob, uint256));
        ReplicatedJob memory job = _jobOf(old);
        bytes32 id = log.topics[2];
        _check(_numbers[id] == 0 && id == idOf(terms), "an amended job is a new one");
        _check(from == job.job.requester && isCancelled[old], "in the place of one that its requester cancelled");
        _check(
            terms.job.requester == from && terms.job.spec == job.job.spec && terms.job.taskCount == job.job.taskCount
                && terms.job.batchSize == job.job.batchSize && terms.job.fuelLimit == job.job.fuelLimit,
            "the same work"
        );
        uint256 need;
        for (uint32 b = 0; b < _batchCount(job); ++b) {
            isAbsent[id][b] = isAbsent[old][b] || _ballots[old][b].state != BallotState.Open;
            if (!isAbsent[id][b]) need += _costOf(terms, b);
        }
        _check(need != 0 && deposit == need, "all that its open batches may cost");
        _posted.push(terms);
        (_numbers[id], postBlockOf[id]) = (_posted.length, block.number);
        _lock(from, deposit);
    }

    function _onCancelled(bytes32 id, address from, Vm.Log memory log) private {
        (uint32 batches, uint256 refund, uint256 fee) = abi.decode(log.data, (uint32, uint256, uint256));
        ReplicatedJob memory job = _jobOf(id);
        _check(from == job.job.requester && !isCancelled[id], "its requester, once");
        isCancelled[id] = true;
        uint256 worth;
        for (uint32 b = 0; b < _batchCount(job); ++b) {
            if (_ballots[id][b].state != BallotState.Open || isAbsent[id][b]) continue;
            batches -= 1;
            worth += _costOf(job, b);
        }
        _check(batches == 0 && refund + fee == worth, "open batches and what they may cost");
        _check(fee == _refundCancelled(job, worth), "the fee of a sorted job");
    }

    /// Told beside what opened the batch again, before or after it: {_reopen} has the refund.
    function _onBatchCancelled(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, uint256 refund, uint256 fee) = abi.decode(log.data, (uint32, uint256, uint256));
        ReplicatedJob memory job = _jobOf(id);
        uint256 worth = _costOf(job, batch);
        _check(isCancelled[id] && refund + fee == worth && fee == _cancelFeeOf(job, worth), "a late batch's refund");
        batchesCancelled += 1;
    }

    function _cancelFeeOf(ReplicatedJob memory job, uint256 worth) private view returns (uint256) {
        return job.assurance.widenSeconds == 0 ? 0 : worth * _settings.feeBps / 10_000;
    }

    function _refundCancelled(ReplicatedJob memory job, uint256 worth) private returns (uint256 fee) {
        fee = _cancelFeeOf(job, worth);
        _refund(job.job.requester, worth);
        _books[job.job.requester].available -= uint96(fee);
        burnable += fee;
    }

    function _onLeased(bytes32 id, address from, Vm.Log memory log) private {
        (uint32[] memory batches, uint128 price, uint32 deadline) = abi.decode(log.data, (uint32[], uint128, uint32));
        ReplicatedJob memory job = _jobOf(id);
        _check(deadline == block.timestamp + job.job.leaseSeconds, "deadline");
        for (uint256 i = 0; i < batches.length; ++i) {
            GhostBallot storage g = _ballots[id][batches[i]];
            _checkTurn(job, id, batches[i], from, g);
            if (g.state == BallotState.Open) {
                _check(
                    !_isClosed(id, batches[i]), "no lease of a cancelled job, or of what an amended one was not given"
                );
                (g.state, g.wanted) = (BallotState.Committing, job.assurance.replicas);
                g.time = uint32(block.timestamp + 2 * job.job.leaseSeconds);
            }
            _check(!_isFull(id, batches[i]), "a free slot");
            _enter(job, id, batches[i], from, price, deadline);
        }
    }

    function _onBackedUp(bytes32 id, address from, Vm.Log memory log) private {
        (uint32 batch, address straggler, uint128 price, uint256 activeBlock) =
            abi.decode(log.data, (uint32, address, uint128, uint256));
        ReplicatedJob memory job = _jobOf(id);
        GhostBallot storage g = _ballots[id][batch];
        GhostReplica storage late = _replicas[id][batch][straggler];
        _check(openCountOf(id) == 0, "no batch is open");
        _check(_isFull(id, batch), "nor a slot");
        _check(late.state == ReplicaState.Leased && !late.backup && late.rival == address(0), "one backup a straggler");
        _check(block.timestamp + job.job.leaseSeconds / 2 >= late.until, "half of its lease is over");
        _check(activeBlock == block.number + _settings.successorDelayBlocks, "a backup waits");
        late.rival = from;
        _checkTurn(job, id, batch, from, g);
        GhostReplica storage r = _enter(job, id, batch, from, price, uint32(activeBlock));
        (r.backup, r.rival) = (true, straggler);
    }

    /// Whether no slot is free.
    function _isFull(bytes32 id, uint32 batch) internal view returns (bool) {
        (uint256 held, uint256 committed,) = countsOf(id, batch);
        return held + committed >= _ballots[id][batch].wanted;
    }

    function _enter(ReplicatedJob memory job, bytes32 id, uint32 batch, address who, uint128 price, uint32 until)
        private
        returns (GhostReplica storage r)
    {
        GhostBallot storage g = _ballots[id][batch];
        r = _replicas[id][batch][who];
        Balance storage book = _books[who];
        _check(g.state == BallotState.Committing && block.timestamp <= g.time, "while the round lasts");
        _check(r.state == ReplicaState.None, "one try a batch");
        _check(!book.exiting && book.checks >= job.assurance.minChecks, "who may lease");
        _check(price == _rampOf(job), "the price of the moment");
        (r.state, r.until, r.price, r.checks) = (ReplicaState.Leased, until, price, book.checks);
        _hold(who, _leaseLockOf(job, batch));
    }

    function _onReleased(bytes32 id, address from, Vm.Log memory log) private {
        uint32 batch = abi.decode(log.data, (uint32));
        ReplicatedJob memory job = _jobOf(id);
        GhostReplica storage r = _replicas[id][batch][from];
        _check(r.state == ReplicaState.Leased, "its holder gives it back");
        _books[from].held -= uint80(_leaseLockOf(job, batch));
        if (_isBeaten(id, batch, r)) {
            _reset(id, batch, from, ReplicaState.Done);
            return;
        }
        uint256 lease = job.job.leaseSeconds;
        bool early = r.backup ? block.number <= r.until : block.timestamp + lease * 3 / 4 <= r.until;
        _check(early, "early");
        address rival = r.rival;
        _reset(id, batch, from, ReplicaState.Done);
        _left(job, id, batch, rival);
    }

    function _onExpired(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, uint256 bond) = abi.decode(log.data, (uint32, uint256));
        ReplicatedJob memory job = _jobOf(id);
        address provider = _address(log.topics[2]);
        GhostBallot storage g = _ballots[id][batch];
        GhostReplica storage r = _replicas[id][batch][provider];
        _check(r.state == ReplicaState.Leased && !_isBeaten(id, batch, r), "the holder's lease");
        _check(block.timestamp > g.time || !r.backup && block.timestamp > r.until, "after its deadline");
        uint256 lock = _leaseLockOf(job, batch);
        _check(bond == _bondOf(_worstOf(job, batch), lock, g.expiries), "the bond, which doubles");
        Balance storage book = _books[provider];
        (book.held, book.stake) = (book.held - uint80(lock), book.stake - uint80(bond));
        book.expired += 1;
        burnable += bond;
        if (g.expiries < 15) g.expiries += 1;
        address rival = r.rival;
        _reset(id, batch, provider, ReplicaState.Done);
        _left(job, id, batch, rival);
    }

    /// A lease ended without a commit.
    function _left(ReplicatedJob memory job, bytes32 id, uint32 batch, address rival) private {
        if (rival != address(0)) _replicas[id][batch][rival].rival = address(0);
        (uint256 held, uint256 committed,) = countsOf(id, batch);
        if (held + committed == 0) _reopen(job, id, batch);
    }

    function _reopen(ReplicatedJob memory job, bytes32 id, uint32 batch) private {
        uint8 expiries = _ballots[id][batch].expiries;
        delete _ballots[id][batch];
        _ballots[id][batch].expiries = expiries;
        if (!isCancelled[id]) return;
        (_ballots[id][batch].state, _ballots[id][batch].ends) = (BallotState.Cancelled, 1);
        _refundCancelled(job, _costOf(job, batch));
        reopenedCancelled += 1;
    }

    function _onCommitted(bytes32 id, address from, Vm.Log memory log) private {
        (uint32 batch, bytes32 hash) = abi.decode(log.data, (uint32, bytes32));
        ReplicatedJob memory job = _jobOf(id);
        GhostBallot storage g = _ballots[id][batch];
        GhostReplica storage r = _replicas[id][batch][from];
        _check(_address(log.topics[2]) == from && r.state == ReplicaState.Leased, "the holder commits");
        _check(!_isBeaten(id, batch, r), "the first of straggler and backup");
        _check(g.state == BallotState.Committing && block.timestamp <= g.time, "while the round lasts");
        _check(!r.backup || block.number >= r.until, "a backup waits");
        (, uint256 committed, uint256 revealed) = countsOf(id, batch);
        (r.state, r.isPublic, r.hash) = (ReplicaState.Committed, revealed != 0, hash);
        (r.commitBlock, r.backup, r.rival, r.until) = (uint32(block.number), false, address(0), 0);
        if (committed + 1 < g.wanted) return;
        // The first round of a job with audits.
        bool lot = job.assurance.auditBps != 0 && g.wanted == job.assurance.replicas && revealed == 0 && !g.drawn;
        g.state = lot ? BallotState.Drawing : BallotState.Revealing;
        if (lot) g.openedBlock = uint32(block.number);
        g.time = uint32(block.timestamp + job.assurance.revealSeconds);
    }

    function _onDrawn(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, bool audited) = abi.decode(log.data, (uint32, bool));
        GhostBallot storage g = _ballots[id][batch];
        if (isShort(id, batch)) {
            _check(audited && block.timestamp > g.time, "a first round that lacks commits is audited");
            return;
        }
        uint256 from = lastCommitOf(id, batch);
        _check(g.state == BallotState.Drawing && block.number > from + 1, "a batch that waits for its draw");
        bytes32 hash = blockhash(from + 1);
        bool need =
            hash == 0 || uint256(keccak256(abi.encode(hash, id, batch))) % 10_000 < _jobOf(id).assurance.auditBps;
        _check(audited == need, "the block decides");
        if (!audited) g.state = BallotState.Revealing;
    }

    function _onRevealed(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, bytes32 root, uint64 fuel,) = abi.decode(log.data, (uint32, bytes32, uint64, bytes32));
        ReplicatedJob memory job = _jobOf(id);
        address provider = _address(log.topics[2]);
        GhostBallot storage g = _ballots[id][batch];
        GhostReplica storage r = _replicas[id][batch][provider];
        Reveal storage plan = _plans[id][batch][provider];
        _check(r.state == ReplicaState.Committed, "who committed");
        if (g.state == BallotState.Committing) {
            (uint256 held,, uint256 revealed) = countsOf(id, batch);
            _check(block.timestamp > g.time && held == 0 && revealed == 0, "the round is over");
            _check(!isShort(id, batch), "an audit of what lacks commits is before its reveals");
            (g.state, g.time) = (BallotState.Revealing, g.time + job.assurance.revealSeconds);
        }
        _check(g.state == BallotState.Revealing && block.timestamp <= g.time, "in the time to reveal");
        _check(root != 0 && root == plan.root && fuel == plan.fuel, "what its maker committed to");
        _check(fuel <= _tasksIn(job, batch) * job.job.fuelLimit, "fuel within the limit");
        (r.state, r.root, r.fuel, r.hash) = (ReplicaState.Revealed, root, fuel, 0);
    }

    function _onAllRevealed(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, uint32 finalAt) = abi.decode(log.data, (uint32, uint32));
        (, uint256 committed, uint256 revealed) = countsOf(id, batch);
        _check(committed == revealed, "all have revealed");
        _check(finalAt == block.timestamp + _jobOf(id).job.windowSeconds, "a whole window");
        _ballots[id][batch].time = finalAt;
    }

    function _onRoundOpened(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, uint256 wanted, uint32 end) = abi.decode(log.data, (uint32, uint256, uint32));
        ReplicatedJob memory job = _jobOf(id);
        GhostBallot storage g = _ballots[id][batch];
        Said memory said = saidIn(id, batch);
        if (g.state == BallotState.Drawing || isShort(id, batch)) {
            _check(_selector == IReplicaRegistry.draw.selector && !g.drawn, "drawn once");
            g.drawn = true;
        } else {
            _check(g.state == BallotState.Revealing && _isOver(g, said), "the votes are in");
            _check(!said.accepted && said.revealed != 0, "and nobody is believed");
            _check(said.committed < job.assurance.limit, "within the limit");
        }
        _check(wanted == said.committed + 1, "one more");
        _check(end == block.timestamp + 2 * job.job.leaseSeconds, "a round's end");
        (g.state, g.wanted, g.time) = (BallotState.Committing, uint8(wanted), end);
        g.openedBlock = uint32(block.number);
    }

    function _onSlashed(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, uint256 stake) = abi.decode(log.data, (uint32, uint256));
        address provider = _address(log.topics[2]);
        _check(stake != 0 && _slashes[provider] == 0, "slashed once");
        _check(stake == _leaseLockOf(_jobOf(id), batch), "what the lease held");
        _slashes[provider] = stake;
    }

    function _onBatchFrozen(bytes32 id, Vm.Log memory log) private {
        uint32 batch = abi.decode(log.data, (uint32));
        GhostBallot storage g = _ballots[id][batch];
        Said memory said = saidIn(id, batch);
        _check(g.state == BallotState.Revealing && _isOver(g, said) && said.accepted, "a result that stands");
        if (said.revealed != said.committed) g.time += _jobOf(id).job.windowSeconds;
        g.state = BallotState.Frozen;
        _onFrozen(id, batch);
    }

    function _onBatchResolved(bytes32 id, Vm.Log memory log) private {
        (uint32 batch, Verdict verdict) = abi.decode(log.data, (uint32, Verdict));
        ReplicatedJob memory job = _jobOf(id);
        GhostBallot storage g = _ballots[id][batch];
        Said memory said = saidIn(id, batch);
        _check(g.state == BallotState.Frozen, "a frozen result");
        _onResolved(id, batch, verdict, said.agreed * (_leaseLockOf(job, batch) / 2));
        g.verdict = verdict;
        if (verdict != Verdict.Stands) return;
        g.state = BallotState.Revealing;
        if (said.revealed != said.committed) g.time -= job.job.windowSeconds;
    }

    /// What becomes of each vote, and of the deposit.
    function _onEnded(bytes32 id, address from, Vm.Log memory log) private {
        Ended memory e = abi.decode(log.data, (Ended));
        ReplicatedJob memory job = _jobOf(id);
        GhostBallot storage g = _ballots[id][e.batch];
        Said memory said = saidIn(id, e.batch);
        _check(e.state == _endOf(job, g, said, from), "the end that the votes and the clock allow");
        if (said.revealed != 0) _check(e.root == said.root && e.fuel == said.fuel, "the best group");
        (uint256 paid, uint256 burns) = _share(job, id, e.batch, e.state, said);
        _check(burns == e.fee, "the fee, or half of the price");
        feesBurned += e.fee;
        _recordConsent(job.job.requester, e);
        if (e.state == BallotState.Open) {
            _check(e.refund == 0, "an open batch keeps its deposit");
            _reopen(job, id, e.batch);
            return;
        }
        _check(paid + e.fee + e.refund == _costOf(job, e.batch), "what goes out of a batch is what it was given");
        _refund(job.job.requester, paid + e.fee + e.refund);
        _books[job.job.requester].available -= uint96(paid + e.fee);
        burnable += e.fee;
        g.state = e.state;
        g.ends += 1;
    }

    /// Only the requester calls `accept`: others' payments are its silence.
    function _recordConsent(address requester, Ended memory e) private {
        bool accepting =
            _selector == IReplicaRegistry.accept.selector || _selector == IReplicaRegistry.revealAndAccept.selector;
        _check((e.consent != Consent.None) == (e.state == BallotState.Settled), "somebody has it paid");
        _check(e.consent != Consent.Accepted || accepting, "an acceptance");
        _check(e.consent != Consent.TimedOut || !accepting, "silence");
        if (e.consent == Consent.Accepted) _books[requester].accepted += 1;
        if (e.consent == Consent.TimedOut) _books[requester].timedOut += 1;
    }

    function _endOf(ReplicatedJob memory job, GhostBallot storage g, Said memory said, address from)
        private
        view
        returns (BallotState)
    {
        if (g.state == BallotState.Frozen) return BallotState.Overturned;
        if (!_isOver(g, said) || _isShort(job, g, said)) return BallotState.Frozen;
        if (said.accepted) {
            bool early = from == job.job.requester && said.agreed == said.committed;
            uint256 finalAt = g.time + (said.revealed == said.committed ? 0 : job.job.windowSeconds);
            return early || block.timestamp >= finalAt ? BallotState.Settled : BallotState.Frozen;
        }
        if (said.revealed == 0) return BallotState.Open;
        // A round that found nobody, or the last one.
        bool last = g.state == BallotState.Committing || said.committed >= job.assurance.limit;
        return last ? BallotState.Undecided : BallotState.Frozen;
    }

    /// Whether a first round, in a job with audits, may end with fewer commits than it wanted.
    function isShort(bytes32 id, uint32 batch) public view returns (bool) {
        return _isShort(_jobOf(id), _ballots[id][batch], saidIn(id, batch));
    }

    function _isShort(ReplicatedJob memory job, GhostBallot storage g, Said memory said) private view returns (bool) {
        return job.assurance.auditBps != 0 && g.state == BallotState.Committing && !g.drawn && said.revealed == 0;
    }

    /// Block of the last commit to a batch.
    function lastCommitOf(bytes32 id, uint32 batch) public view returns (uint256 last) {
        for (uint256 a = 0; a < actors.length; ++a) {
            GhostReplica storage r = _replicas[id][batch][actors[a]];
            if (_hasCommitted(r) && r.commitBlock > last) last = r.commitBlock;
        }
    }

    /// Whether nobody can reveal any more.
    function _isOver(GhostBallot storage g, Said memory said) private view returns (bool) {
        if (g.state == BallotState.Revealing) return said.revealed == said.committed || block.timestamp > g.time;
        return g.state == BallotState.Committing && block.timestamp > g.time;
    }

    function _share(ReplicatedJob memory job, bytes32 id, uint32 batch, BallotState state, Said memory said)
        private
        returns (uint256, uint256)
    {
        Ending memory e = Ending(state, _ballots[id][batch].verdict, _leaseLockOf(job, batch), 0, 0, 0);
        for (uint256 a = 0; a < actors.length; ++a) {
            GhostReplica storage r = _replicas[id][batch][actors[a]];
            if (!_hasCommitted(r)) continue;
            _check(_priceOf(r) <= _worstOf(job, batch), "each vote costs at most its worst case");
            _shareOf(actors[a], r, said, e);
            if (state == BallotState.Open) _reset(id, batch, actors[a], ReplicaState.Done);
        }
        burnable += e.lost - (e.verdict == Verdict.Wrong ? said.agreed * (e.lock / 2) : 0);
        return (e.paid, e.fee);
    }

    function _shareOf(address who, GhostReplica storage r, Said memory said, Ending memory e) private {
        Balance storage book = _books[who];
        bool agrees = r.root == said.root && r.fuel == said.fuel && said.revealed != 0;
        bool loses = r.state == ReplicaState.Committed;
        uint256 price = _priceOf(r);
        if (e.state == BallotState.Settled) {
            loses = !agrees;
            if (agrees) (book.earned, e.paid) = (book.earned + uint88(price), e.paid + price);
            if (agrees && said.agreed > 1) {
                uint256 fee = price * _settings.feeBps / 10_000;
                e.fee += fee;
                if (fee >= _settings.checkFee) (book.checks, checksGiven) = (book.checks + 1, checksGiven + 1);
            }
        } else if (e.state == BallotState.Undecided) {
            e.fee += price / 2;
        } else if (e.state == BallotState.Overturned) {
            if (agrees && e.verdict == Verdict.Wrong) loses = true;
            if (agrees && e.verdict == Verdict.Withheld) book.withheld += 1;
        }
        book.held -= uint80(e.lock);
        _check(_slashes[who] == (loses ? e.lock : 0), "who is wrong or silent loses what the lease held");
        _slashes[who] = 0;
        if (!loses) return;
        book.stake -= uint80(e.lock);
        (book.checks, book.failed) = (0, book.failed + 1);
        e.lost += e.lock;
    }

    function _priceOf(GhostReplica storage r) private view returns (uint256) {
        return uint256(r.fuel) * r.price / 1e9;
    }
}
