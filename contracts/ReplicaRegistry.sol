// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReplicaLeases} from "./ReplicaLeases.sol";
import {Standing, Verdict} from "./interfaces/IDisputes.sol";
import {Consent, Mark, Permit, Share} from "./interfaces/IEscrow.sol";
import {Contact, Job, Spec} from "./interfaces/IJobRegistry.sol";
import {
    BallotState,
    Commitment,
    IReplicaRegistry,
    Opening,
    ReplicaState,
    ReplicatedJob,
    Reveal,
    Tally,
    Vote
} from "./interfaces/IReplicaRegistry.sol";
import {Ballot, Ballots, Replica} from "./libraries/Ballots.sol";
import {Jobs} from "./libraries/Jobs.sol";
import {Votes} from "./libraries/Votes.sol";

/// @title Jobs whose batches several providers execute: commit, reveal, vote; audits by lot
/// @dev Like JobRegistry it stores no job, and of each provider's work on a batch one slot. Leases are in {ReplicaLeases}.
contract ReplicaRegistry is ReplicaLeases {
    using Votes for ReplicatedJob;
    using Jobs for Job;

    /// What the votes of a batch come to.
    struct Count {
        bytes32 jobId;
        uint32 batch;
        Ballot ballot;
        Vote[] votes;
        /// Whether a group is believed, and its vote.
        bool accepted;
        Vote winner;
        /// Votes in it.
        uint256 agreed;
        /// Token wei: what its votes are paid, and what else the requester pays.
        uint256 paid;
        uint256 burned;
        /// Whose doing its payment is.
        Consent consent;
    }

    /// @inheritdoc IReplicaRegistry
    function post(ReplicatedJob calldata job, Spec calldata spec, Contact calldata contact, Permit calldata permit)
        external
        returns (bytes32 jobId)
    {
        if (msg.sender != job.job.requester) revert NotRequester(msg.sender, job.job.requester);
        uint256 deposit = _RULES.depositOfReplicated(job, spec);
        jobId = _jobId();
        emit ReplicatedJobPosted(jobId, msg.sender, job, spec, contact, deposit);
        _start(jobId, job.job.batchCount(), false, deposit, permit);
    }

    /// @inheritdoc IReplicaRegistry
    function setContact(ReplicatedJob calldata job, Contact calldata contact) external {
        (bytes32 jobId,) = _asRequester(job);
        emit JobContactChanged(jobId, contact);
    }

    /// @inheritdoc IReplicaRegistry
    function cancel(ReplicatedJob calldata job) external {
        (bytes32 jobId, Ballot head) = _asRequester(job);
        _cancel(job, jobId, head);
    }

    /// @inheritdoc IReplicaRegistry
    function amend(ReplicatedJob calldata job, ReplicatedJob calldata terms, Permit calldata permit)
        external
        returns (bytes32 jobId)
    {
        (bytes32 from, Ballot head) = _asRequester(job);
        uint24 open = head.openCount();
        uint256 deposit = _RULES.depositOfAmended(job, terms, open, _cancel(job, from, head));
        // The second argument follows the words of the first.
        jobId = _idOf(msg.data[4 + 32 * JOB_WORDS:4 + 64 * JOB_WORDS]);
        _parents[jobId] = from;
        emit ReplicatedJobAmended(from, jobId, terms, deposit);
        _start(jobId, open, true, deposit, permit);
    }

    /// @inheritdoc IReplicaRegistry
    function commit(ReplicatedJob calldata job, Commitment[] calldata commitments) external {
        (bytes32 jobId,) = _posted();
        if (commitments.length == 0) revert NothingGiven();
        for (uint256 i = 0; i < commitments.length; ++i) {
            uint32 number = commitments[i].batch;
            Ballot ballot = _ballotAt(job, jobId, number);
            Replica replica = _replicaIn(jobId, number, msg.sender, ReplicaState.Leased);
            _checkRound(number, ballot);
            if (_isBeaten(jobId, number, replica)) revert SlotTaken(number);
            if (replica.isBackup() && block.number < replica.activeBlock()) {
                revert NotYetActive(number, replica.activeBlock());
            }
            // Some have been revealed: this round opened because they were not enough.
            bool public_ = ballot.revealed() != 0;
            _replicas[jobId][number][msg.sender] = replica.committed(block.number, commitments[i].hash, public_);
            uint256 committed = ballot.committed() + 1;
            ballot = ballot.withCommitted(committed).withLeased(ballot.leased() - 1);
            if (committed == ballot.wanted()) {
                ballot =
                    _awaitsDraw(job, ballot) ? ballot.drawing(block.number) : ballot.withState(BallotState.Revealing);
                ballot = ballot.withTime(_after(job.assurance.revealSeconds));
            }
            _set(jobId, number, ballot);
            emit Committed(jobId, msg.sender, number, commitments[i].hash);
        }
    }

    /// @inheritdoc IReplicaRegistry
    function draw(ReplicatedJob calldata job, uint32 number) external {
        (bytes32 jobId,) = _posted();
        Ballot ballot = _ballotAt(job, jobId, number);
        bool audited = true;
        if (ballot.state() == BallotState.Committing && _awaitsDraw(job, ballot)) {
            // Else who holds all of a batch would leave one slot empty, and be sure.
            _checkEnd(number, ballot);
        } else {
            _checkState(number, ballot, BallotState.Drawing);
            audited = _isAudited(job, jobId, number, ballot);
        }
        emit Drawn(jobId, number, audited);
        ballot = audited ? _nextRound(job, jobId, number, ballot, true) : ballot.withState(BallotState.Revealing);
        _set(jobId, number, ballot);
    }

    /// @inheritdoc IReplicaRegistry
    function reveal(ReplicatedJob calldata job, Reveal[] calldata reveals) external {
        (bytes32 jobId,) = _posted();
        if (reveals.length == 0) revert NothingGiven();
        for (uint256 i = 0; i < reveals.length; ++i) {
            if (_reveal(job, jobId, reveals[i]).isPublic()) revert WrongReveal(reveals[i].batch);
        }
    }

    /// @inheritdoc IReplicaRegistry
    function revealOpened(ReplicatedJob calldata job, Reveal calldata given, Opening calldata opening) external {
        (bytes32 jobId,) = _posted();
        Replica replica = _reveal(job, jobId, given);
        if (!replica.isPublic()) revert WrongReveal(given.batch);
        bytes32 hash = _hashAfter(replica.commitBlock());
        if (hash == 0) revert BlockTooOld(replica.commitBlock() + 1);
        if (!_RULES.isOpened(job, jobId, hash, given, opening)) revert WrongOpening(given.batch);
    }

    /// @inheritdoc IReplicaRegistry
    function accept(ReplicatedJob calldata job, Tally[] calldata tallies) external {
        (bytes32 jobId,) = _asRequester(job);
        _finalise(job, jobId, tallies, true);
    }

    /// @inheritdoc IReplicaRegistry
    function revealAndAccept(ReplicatedJob calldata job, Reveal[] calldata reveals) external {
        (bytes32 jobId,) = _asRequester(job);
        if (reveals.length == 0) revert NothingGiven();
        Vote[] memory votes = new Vote[](reveals.length);
        for (uint256 i = 0; i < reveals.length; ++i) {
            Reveal calldata given = reveals[i];
            if (_reveal(job, jobId, given).isPublic()) revert WrongReveal(given.batch);
            votes[i] = Vote(given.provider, given.root, given.fuel);
        }
        _finalise(job, jobId, reveals[0].batch, votes, true);
    }

    /// @inheritdoc IReplicaRegistry
    function finalise(ReplicatedJob calldata job, Tally[] calldata tallies) external {
        (bytes32 jobId,) = _posted();
        _finalise(job, jobId, tallies, false);
    }

    /// @inheritdoc IReplicaRegistry
    function freeze(ReplicatedJob calldata job, Tally calldata tally) external returns (Standing memory) {
        if (msg.sender != address(_DISPUTES)) revert NotDisputes(msg.sender);
        (bytes32 jobId,) = _posted();
        Ballot ballot = _ballotAt(job, jobId, tally.batch);
        if (ballot.state() != BallotState.Frozen) {
            uint256 finalAt;
            (ballot, finalAt) = _over(job, jobId, tally.batch);
            ballot = ballot.withState(BallotState.Frozen).withTime(finalAt);
            _set(jobId, tally.batch, ballot);
            emit BatchFrozen(jobId, tally.batch);
        }
        Count memory count = _count(job, jobId, ballot, tally.batch, tally.votes);
        if (!count.accepted) revert NotAccepted(tally.batch);
        return _describe(job, jobId, ballot, tally.batch, count.winner);
    }

    /// @inheritdoc IReplicaRegistry
    function resolve(ReplicatedJob calldata job, Tally calldata tally) external returns (Verdict verdict) {
        (bytes32 jobId,) = _posted();
        Ballot ballot = _ballotAt(job, jobId, tally.batch);
        _checkState(tally.batch, ballot, BallotState.Frozen);
        Count memory count = _count(job, jobId, ballot, tally.batch, tally.votes);
        Standing memory about = _describe(job, jobId, ballot, tally.batch, count.winner);
        verdict = _DISPUTES.conclude(keccak256(abi.encode(about)), _award(count, leaseLock(job, tally.batch)));
        emit BatchResolved(jobId, tally.batch, verdict);
        if (verdict == Verdict.Stands) {
            // With its window over, whether or not all have revealed.
            uint256 window = ballot.revealed() == ballot.committed() ? 0 : job.job.windowSeconds;
            ballot = ballot.withState(BallotState.Revealing).withTime(ballot.time() - window);
            _set(jobId, tally.batch, ballot);
        } else {
            _end(job, count, BallotState.Overturned, verdict);
        }
    }

    function _start(bytes32 jobId, uint256 open, bool continued, uint256 deposit, Permit calldata permit) private {
        if (_ballots[jobId][0].isPosted()) revert JobExists(jobId);
        _ballots[jobId][0] = Ballots.posted(open, block.number, continued);
        _ESCROW.lock(msg.sender, deposit, permit);
    }

    /// Ends the open batches of a job. Returns whether its last batch is one of them.
    function _cancel(ReplicatedJob calldata job, bytes32 jobId, Ballot head) private returns (bool withLast) {
        if (head.isCancelled()) revert JobIsCancelled(jobId);
        uint24 open = head.openCount();
        uint32 last = job.job.batchCount() - 1;
        withLast = _ballots[jobId][last].state() == BallotState.Open && _isInherited(jobId, head, last);
        _ballots[jobId][0] = head.cancelled();
        (uint256 refund, uint256 burned) = _giveBack(job, job.costOf(open, withLast, _FEE_BPS));
        emit JobCancelled(jobId, open, refund, burned);
    }

    /// Whether the batch, until it is revealed, may yet be audited.
    function _awaitsDraw(ReplicatedJob calldata job, Ballot ballot) private pure returns (bool) {
        return job.assurance.auditBps != 0 && ballot.isFirstRound();
    }

    /// Of a batch that is drawing.
    function _isAudited(ReplicatedJob calldata job, bytes32 jobId, uint32 number, Ballot ballot)
        private
        view
        returns (bool)
    {
        bytes32 hash = _hashAfter(ballot.lastCommitBlock());
        return hash == 0 || uint256(keccak256(abi.encode(hash, jobId, number))) % BPS < job.assurance.auditBps;
    }

    /// Takes a reveal. Returns what was committed.
    function _reveal(ReplicatedJob calldata job, bytes32 jobId, Reveal calldata given)
        private
        returns (Replica replica)
    {
        uint32 number = given.batch;
        Ballot ballot = _ballotAt(job, jobId, number);
        replica = _replicaIn(jobId, number, given.provider, ReplicaState.Committed);
        uint256 end = ballot.time();
        if (ballot.state() == BallotState.Committing) {
            // An extra round that found nobody is over.
            end = _revealsEnd(job, number, ballot);
        } else if (ballot.state() == BallotState.Drawing) {
            if (_isAudited(job, jobId, number, ballot)) _checkState(number, ballot, BallotState.Revealing);
            emit Drawn(jobId, number, false);
        } else {
            _checkState(number, ballot, BallotState.Revealing);
        }
        if (block.timestamp > end) revert TooLate(number, end);
        uint256 limit = job.job.fuelIn(number);
        if (given.fuel > limit) revert FuelAboveLimit(number, given.fuel, limit);
        if (given.root == 0) revert EmptyRoot(number);
        bytes32 commitment = keccak256(
            abi.encode(jobId, number, given.provider, given.root, given.fuel, given.outputs, given.bound, given.salt)
        );
        if (replica.hash() != Ballots.shortened(commitment)) revert WrongCommitment(number);
        _replicas[jobId][number][given.provider] = replica.revealed(_voteHash(given.root, given.fuel));
        emit Revealed(jobId, given.provider, number, given.root, given.fuel, given.outputs);
        uint256 revealed = ballot.revealed() + 1;
        ballot = ballot.withState(BallotState.Revealing).withRevealed(revealed).withTime(end);
        if (revealed == ballot.committed()) {
            uint32 finalAt = _after(job.job.windowSeconds);
            ballot = ballot.withTime(finalAt);
            emit AllRevealed(jobId, number, finalAt);
        }
        _set(jobId, number, ballot);
    }

    /// Reverts unless the time to commit is over, and with it all leases.
    function _checkEnd(uint32 number, Ballot ballot) private view {
        _checkPast(number, ballot.time());
        if (ballot.leased() != 0) revert LeasesToExpire(number);
    }

    /// Until when the commits of a round that lacks some may be revealed. Reverts unless it is over, and drawn if it is the first.
    function _revealsEnd(ReplicatedJob calldata job, uint32 number, Ballot ballot) private view returns (uint256 end) {
        _checkEnd(number, ballot);
        if (_awaitsDraw(job, ballot)) _checkState(number, ballot, BallotState.Revealing);
        end = ballot.time();
        if (ballot.revealed() == 0) end += job.assurance.revealSeconds;
    }

    /// A batch whose votes are in, and the end of its window. Its state is `Committing` if an extra round found nobody.
    function _over(ReplicatedJob calldata job, bytes32 jobId, uint32 number)
        private
        view
        returns (Ballot ballot, uint256 finalAt)
    {
        ballot = _ballotAt(job, jobId, number);
        finalAt = ballot.time();
        if (ballot.state() == BallotState.Committing) {
            finalAt = _revealsEnd(job, number, ballot);
            if (ballot.revealed() != 0) return (ballot, finalAt);
        } else {
            _checkState(number, ballot, BallotState.Revealing);
            if (ballot.revealed() == ballot.committed()) return (ballot, finalAt);
        }
        _checkPast(number, finalAt);
        return (ballot.withState(BallotState.Revealing), finalAt + job.job.windowSeconds);
    }

    /// Whether a group is believed. Reverts unless the votes are all of them.
    function _count(ReplicatedJob calldata job, bytes32 jobId, Ballot ballot, uint32 number, Vote[] memory votes)
        private
        view
        returns (Count memory count)
    {
        if (votes.length != ballot.committed()) revert WrongVotes(number);
        (count.jobId, count.batch, count.ballot, count.votes) = (jobId, number, ballot, votes);
        uint256[] memory checks = new uint256[](votes.length);
        address last;
        Vote memory first;
        bool dissent;
        for (uint256 i = 0; i < votes.length; ++i) {
            Vote memory vote = votes[i];
            Replica replica = _replicas[jobId][number][vote.provider];
            if (!_isVote(replica, vote) || vote.provider <= last) revert WrongVotes(number);
            (last, checks[i]) = (vote.provider, replica.checks());
            if (vote.root == 0) continue;
            if (first.root == 0) first = vote;
            else if (!_agree(vote, first)) dissent = true;
        }
        // Records are what an audit puts to the test.
        if (dissent && ballot.isDrawn()) checks = new uint256[](votes.length);
        uint256 best;
        (best, count.agreed, count.accepted) = Votes.tally(votes, checks, job.assurance.target, _FAULTY_BPS);
        count.winner = votes[best];
        // One replica, not drawn or nobody to audit it: the requester asked for no vote.
        if (votes.length == 1 && job.assurance.replicas == 1) count.accepted = ballot.revealed() != 0;
    }

    /// Whether a replica has revealed `vote`, or committed and revealed nothing.
    function _isVote(Replica replica, Vote memory vote) private pure returns (bool) {
        if (replica.state() == ReplicaState.Revealed) {
            return replica.hash() == Ballots.shortened(_voteHash(vote.root, vote.fuel));
        }
        return replica.state() == ReplicaState.Committed && vote.root == 0 && vote.fuel == 0;
    }

    function _agree(Vote memory vote, Vote memory winner) private pure returns (bool) {
        return vote.root == winner.root && vote.fuel == winner.fuel;
    }

    function _voteHash(bytes32 root, uint64 fuel) private pure returns (bytes32) {
        return keccak256(abi.encode(root, fuel));
    }

    function _describe(ReplicatedJob calldata job, bytes32 jobId, Ballot ballot, uint32 number, Vote memory winner)
        private
        pure
        returns (Standing memory)
    {
        // forge-lint: disable-start(unsafe-typecast) Stored as 32 bits; at most batchSize.
        return Standing({
            jobId: jobId,
            batch: number,
            requester: job.job.requester,
            root: winner.root,
            fuel: winner.fuel,
            firstTask: number * job.job.batchSize,
            tasks: uint32(job.job.tasksIn(number)),
            finalAt: uint32(ballot.time())
        });
        // forge-lint: disable-end(unsafe-typecast)
    }

    /// Brings batches to their end, or opens one more slot.
    function _finalise(ReplicatedJob calldata job, bytes32 jobId, Tally[] calldata tallies, bool accepted) private {
        if (tallies.length == 0) revert NothingGiven();
        for (uint256 i = 0; i < tallies.length; ++i) {
            _finalise(job, jobId, tallies[i].batch, tallies[i].votes, accepted);
        }
    }

    function _finalise(ReplicatedJob calldata job, bytes32 jobId, uint32 number, Vote[] memory votes, bool accepted)
        private
    {
        (Ballot ballot, uint256 finalAt) = _over(job, jobId, number);
        Count memory count = _count(job, jobId, ballot, number, votes);
        BallotState end = BallotState.Undecided;
        if (count.accepted) {
            bool unanimous = accepted && count.agreed == votes.length;
            if (!unanimous && block.timestamp < finalAt) revert TooEarly(number, finalAt);
            end = BallotState.Settled;
            count.consent = accepted ? Consent.Accepted : Consent.TimedOut;
        } else if (accepted) {
            revert NotAccepted(number);
        } else if (ballot.revealed() == 0) {
            end = BallotState.Open;
        } else if (ballot.state() == BallotState.Revealing && ballot.committed() < job.assurance.limit) {
            _set(jobId, number, _nextRound(job, jobId, number, ballot, false));
            return;
        }
        _end(job, count, end, Verdict.Stands);
    }

    function _nextRound(ReplicatedJob calldata job, bytes32 jobId, uint32 number, Ballot ballot, bool audit)
        private
        returns (Ballot next)
    {
        uint32 end = _roundEnd(job);
        next = ballot.nextRound(end, block.number, audit);
        emit RoundOpened(jobId, number, next.wanted(), end);
    }

    /// The last write to a batch, whose state is now `end`: what becomes of each vote, and of the deposit.
    function _end(ReplicatedJob calldata job, Count memory count, BallotState end, Verdict verdict) private {
        Share[] memory shares = new Share[](count.votes.length);
        uint256 lock = leaseLock(job, count.batch);
        for (uint256 i = 0; i < shares.length; ++i) {
            shares[i] = _share(job, count, count.votes[i], lock, end, verdict);
        }
        uint256 refund;
        if (end == BallotState.Open) {
            _reopen(job, count.jobId, count.batch, count.ballot);
        } else {
            _set(count.jobId, count.batch, count.ballot.withState(end));
            refund = job.costOf(count.batch, _FEE_BPS) - count.paid - count.burned;
        }
        emit BatchEnded(
            count.jobId, count.batch, end, count.winner.root, count.winner.fuel, refund, count.burned, count.consent
        );
        uint256 award = verdict == Verdict.Wrong ? _award(count, lock) : 0;
        _ESCROW.settle(job.job.requester, refund, count.burned, award, count.consent, shares);
    }

    /// What a dispute about a wrong result gets of its voters' stake.
    function _award(Count memory count, uint256 lock) private pure returns (uint256) {
        return count.agreed * (lock / 2);
    }

    /// What becomes of one vote; adds to what the requester pays.
    function _share(
        ReplicatedJob calldata job,
        Count memory count,
        Vote memory vote,
        uint256 lock,
        BallotState end,
        Verdict verdict
    ) private returns (Share memory share) {
        bool agrees = _agree(vote, count.winner);
        // One that was never revealed is worth no more than a wrong one, wherever there is one.
        bool loses = end == BallotState.Settled ? !agrees : vote.root == 0 || verdict == Verdict.Wrong && agrees;
        Replica replica = _replicas[count.jobId][count.batch][vote.provider];
        uint256 payment = Jobs.payment(vote.fuel, job.job.priceAt(replica.step()));
        share.provider = vote.provider;
        if (end == BallotState.Open) {
            _replicas[count.jobId][count.batch][vote.provider] = Replica.wrap(uint256(ReplicaState.Done));
        } else if (end == BallotState.Undecided) {
            count.burned += payment / 2;
        } else if (end == BallotState.Settled && agrees) {
            share.paid = payment;
            count.paid += payment;
            if (count.agreed > 1) {
                uint256 fee = payment * _FEE_BPS / BPS;
                count.burned += fee;
                if (fee >= _CHECK_FEE) share.mark = Mark.Checked;
            }
        } else if (verdict == Verdict.Withheld && agrees) {
            share.mark = Mark.Withheld;
        }
        if (loses) {
            (share.slashed, share.mark) = (lock, Mark.Failed);
            emit ReplicaSlashed(count.jobId, vote.provider, count.batch, lock);
        } else {
            share.freed = lock;
        }
    }
}
