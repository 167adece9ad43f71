// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IDeployment, Part, Settings} from "./interfaces/IDeployment.sol";
import {IDisputes, Standing, Verdict} from "./interfaces/IDisputes.sol";
import {Balance, IEscrow, Mark, Permit, Share, Voter} from "./interfaces/IEscrow.sol";
import {Contact, Job, Spec} from "./interfaces/IJobRegistry.sol";
import {IJobRules} from "./interfaces/IJobRules.sol";
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
import {BlockHash} from "./libraries/BlockHash.sol";
import {Jobs} from "./libraries/Jobs.sol";
import {Openings} from "./libraries/Openings.sol";
import {Votes} from "./libraries/Votes.sol";

/// @title Jobs whose batches several providers execute: commit, reveal, vote; audits by lot
/// @dev Like JobRegistry it stores no job, and of each provider's work on a batch one slot.
contract ReplicaRegistry is IReplicaRegistry {
    using Votes for ReplicatedJob;
    using Jobs for Job;
    using SafeCast for uint256;

    uint256 private constant BPS = 10_000;
    /// Even where every batch is audited a lease locks what it may earn.
    uint256 private constant MOST_AUDIT_BPS = 5000;
    /// Words of a ReplicatedJob.
    uint256 private constant JOB_WORDS = 19;

    /// Of the deployment: a chain that takes another id keeps its jobs.
    uint256 private immutable _CHAIN_ID = block.chainid;
    IEscrow private immutable _ESCROW;
    IJobRules private immutable _RULES;
    IDisputes private immutable _DISPUTES;
    uint256 private immutable _BACKUP_DELAY;
    uint256 private immutable _EXPIRY_BOND_BPS;
    uint256 private immutable _AUDIT_FLOOR_BPS;
    uint256 private immutable _FAULTY_BPS;
    uint256 private immutable _FEE_BPS;
    uint256 private immutable _CHECK_FEE;
    uint256 private immutable _MIN_STAKE;

    mapping(bytes32 jobId => mapping(uint32 batch => Ballot)) private _ballots;
    mapping(bytes32 jobId => mapping(uint32 batch => mapping(address provider => Replica))) private _replicas;

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
    }

    constructor() {
        IDeployment deployment = IDeployment(msg.sender);
        Settings memory settings = deployment.settings();
        _ESCROW = IEscrow(deployment.addressOf(Part.Escrow));
        _DISPUTES = IDisputes(deployment.addressOf(Part.Disputes));
        _RULES = IJobRules(deployment.addressOf(Part.JobRules));
        _BACKUP_DELAY = settings.successorDelayBlocks;
        _EXPIRY_BOND_BPS = settings.expiryBondBps;
        _AUDIT_FLOOR_BPS = settings.auditFloorBps;
        _FAULTY_BPS = settings.faultyBps;
        _FEE_BPS = settings.feeBps;
        _CHECK_FEE = settings.checkFee;
        _MIN_STAKE = settings.minStake;
    }

    /// @inheritdoc IReplicaRegistry
    function post(ReplicatedJob calldata job, Spec calldata spec, Contact calldata contact, Permit calldata permit)
        external
        returns (bytes32 jobId)
    {
        if (msg.sender != job.job.requester) revert NotRequester(msg.sender, job.job.requester);
        uint256 deposit = _RULES.depositOfReplicated(job, spec);
        jobId = _jobId();
        if (_ballots[jobId][0].isPosted()) revert JobExists(jobId);
        _ballots[jobId][0] = Ballots.posted(job.job.batchCount(), block.number.toUint32());
        emit ReplicatedJobPosted(jobId, msg.sender, job, spec, contact, deposit);
        _ESCROW.lock(msg.sender, deposit, permit);
    }

    /// @inheritdoc IReplicaRegistry
    function setContact(ReplicatedJob calldata job, Contact calldata contact) external {
        (bytes32 jobId,) = _asRequester(job);
        emit JobContactChanged(jobId, contact);
    }

    /// @inheritdoc IReplicaRegistry
    function cancel(ReplicatedJob calldata job) external {
        (bytes32 jobId, Ballot head) = _asRequester(job);
        if (head.isCancelled()) revert JobIsCancelled(jobId);
        uint24 open = head.openCount();
        uint256 refund;
        if (open != 0) {
            uint32 last = job.job.batchCount() - 1;
            bool withLast = _ballots[jobId][last].state() == BallotState.Open;
            refund = job.costOf(open, withLast, _FEE_BPS);
        }
        uint256 burned = job.isSorted() ? refund * _FEE_BPS / BPS : 0;
        _ballots[jobId][0] = head.cancelled();
        emit JobCancelled(jobId, open, refund - burned, burned);
        if (refund != 0) _ESCROW.settle(msg.sender, refund - burned, burned, 0, new Share[](0));
    }

    /// @inheritdoc IReplicaRegistry
    function lease(ReplicatedJob calldata job, uint32[] calldata batches) external {
        (bytes32 jobId,) = _posted();
        if (batches.length == 0) revert NothingGiven();
        Voter memory voter = _enter(job, batches);
        uint16 step = job.job.step();
        uint32 deadline = (block.timestamp + job.job.leaseSeconds).toUint32();
        Replica replica = Ballots.leased(step, voter.checks, deadline, false, address(0));
        for (uint256 i = 0; i < batches.length; ++i) {
            uint32 number = batches[i];
            Ballot ballot = _checkTurn(job, jobId, number, _ballots[jobId][number], voter);
            if (ballot.state() == BallotState.Open) {
                Ballot head = _ballots[jobId][0];
                if (head.isCancelled()) revert JobIsCancelled(jobId);
                _ballots[jobId][0] = head.withOpenCount(head.openCount() - 1);
                ballot = ballot.withState(BallotState.Committing).withWanted(job.assurance.replicas)
                    .withTime((block.timestamp + 2 * uint256(job.job.leaseSeconds)).toUint32());
            }
            _checkRound(number, ballot);
            if (ballot.leased() + ballot.committed() >= ballot.wanted()) revert NoFreeSlot(number);
            _replicaIn(jobId, number, msg.sender, ReplicaState.None);
            _replicas[jobId][number][msg.sender] = replica;
            _set(jobId, number, ballot.withLeased(ballot.leased() + 1));
        }
        emit ReplicasLeased(jobId, msg.sender, batches, job.job.priceAt(step), deadline);
    }

    /// @inheritdoc IReplicaRegistry
    function backUp(ReplicatedJob calldata job, uint32 number, address straggler) external {
        (bytes32 jobId,) = _posted();
        Replica late = _lateReplica(job, jobId, number, straggler);
        _replicaIn(jobId, number, msg.sender, ReplicaState.None);
        uint32[] memory batches = new uint32[](1);
        batches[0] = number;
        Voter memory voter = _enter(job, batches);
        _checkTurn(job, jobId, number, _ballots[jobId][number], voter);
        uint16 step = job.job.step();
        uint256 activeBlock = block.number + _BACKUP_DELAY;
        _replicas[jobId][number][straggler] = late.withRival(msg.sender);
        _replicas[jobId][number][msg.sender] = Ballots.leased(step, voter.checks, activeBlock, true, straggler);
        emit BackupLeased(jobId, msg.sender, number, straggler, job.job.priceAt(step), activeBlock);
    }

    /// @inheritdoc IReplicaRegistry
    function release(ReplicatedJob calldata job, uint32[] calldata batches) external {
        (bytes32 jobId,) = _posted();
        if (batches.length == 0) revert NothingGiven();
        uint256 freed;
        for (uint256 i = 0; i < batches.length; ++i) {
            uint32 number = batches[i];
            Ballot ballot = _ballotAt(job, jobId, number);
            Replica replica = _replicaIn(jobId, number, msg.sender, ReplicaState.Leased);
            freed += leaseLock(job, number);
            emit LeaseReleased(jobId, msg.sender, number);
            if (_isBeaten(jobId, number, replica)) {
                _replicas[jobId][number][msg.sender] = Replica.wrap(uint256(ReplicaState.Done));
                continue;
            }
            uint256 until =
                replica.isBackup() ? replica.activeBlock() : replica.deadline() - job.job.leaseSeconds * 3 / 4;
            if ((replica.isBackup() ? block.number : block.timestamp) > until) revert TooLate(number, until);
            _replicas[jobId][number][msg.sender] = Replica.wrap(0);
            _leave(job, jobId, number, ballot, replica);
        }
        _ESCROW.free(msg.sender, freed);
    }

    /// @inheritdoc IReplicaRegistry
    function expire(ReplicatedJob calldata job, uint32 number, address provider) external {
        (bytes32 jobId,) = _posted();
        Ballot ballot = _ballotAt(job, jobId, number);
        Replica replica = _replicaIn(jobId, number, provider, ReplicaState.Leased);
        if (_isBeaten(jobId, number, replica)) revert SlotTaken(number);
        uint256 deadline = replica.isBackup() ? ballot.time() : Math.min(replica.deadline(), ballot.time());
        if (block.timestamp <= deadline) revert TooEarly(number, deadline);
        uint256 expiries = ballot.expiries();
        uint256 stake = leaseLock(job, number);
        uint256 bond = Math.min((job.job.worst(number) * _EXPIRY_BOND_BPS / BPS) << expiries, stake);
        _replicas[jobId][number][provider] = Replica.wrap(uint256(ReplicaState.Done));
        _leave(job, jobId, number, ballot.withExpiries(Math.min(expiries + 1, 15)), replica);
        emit LeaseExpired(jobId, provider, number, bond);
        _ESCROW.expire(provider, stake, bond);
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
                bool lot = job.assurance.auditBps != 0 && committed == 1;
                ballot = ballot.withState(lot ? BallotState.Drawing : BallotState.Revealing)
                    .withTime((block.timestamp + job.assurance.revealSeconds).toUint32());
            }
            _set(jobId, number, ballot);
            emit Committed(jobId, msg.sender, number, commitments[i].hash);
        }
    }

    /// @inheritdoc IReplicaRegistry
    function draw(ReplicatedJob calldata job, uint32 number, address provider) external {
        (bytes32 jobId,) = _posted();
        Ballot ballot = _ballotAt(job, jobId, number);
        if (ballot.state() != BallotState.Drawing) revert WrongState(number, ballot.state());
        Replica replica = _replicaIn(jobId, number, provider, ReplicaState.Committed);
        bool audited = _isAudited(job, jobId, number, replica);
        emit Drawn(jobId, number, audited);
        if (audited) {
            ballot = _nextRound(job, jobId, number, ballot, true);
        } else {
            ballot = ballot.withState(BallotState.Revealing);
        }
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
        uint256 tasks = job.job.tasksIn(given.batch);
        bytes32 hash = _hashAfter(replica.commitBlock());
        if (hash == 0) revert BlockTooOld(replica.commitBlock() + 1);
        uint256 position = uint256(keccak256(abi.encode(hash, jobId, given.batch, given.provider))) % tasks;
        uint256 index = uint256(given.batch) * job.job.batchSize + position;
        // forge-lint: disable-next-line(unsafe-typecast) At most 65,536 tasks.
        bool shown = opening.leaf.index == index && Openings.verify(given, opening, uint32(tasks), uint32(position));
        if (!shown) revert WrongOpening(given.batch);
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
            ballot = ballot.withState(BallotState.Frozen).withTime(finalAt.toUint32());
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
        if (ballot.state() != BallotState.Frozen) revert WrongState(tally.batch, ballot.state());
        Count memory count = _count(job, jobId, ballot, tally.batch, tally.votes);
        uint256 award = count.agreed * (leaseLock(job, tally.batch) / 2);
        Standing memory about = _describe(job, jobId, ballot, tally.batch, count.winner);
        verdict = _DISPUTES.conclude(keccak256(abi.encode(about)), award);
        emit BatchResolved(jobId, tally.batch, verdict);
        if (verdict == Verdict.Stands) {
            // With its window over, whether or not all have revealed.
            uint256 window = ballot.revealed() == ballot.committed() ? 0 : job.job.windowSeconds;
            ballot = ballot.withState(BallotState.Revealing).withTime((ballot.time() - window).toUint32());
            _set(jobId, tally.batch, ballot);
        } else {
            _end(job, count, BallotState.Overturned, verdict);
        }
    }

    /// @inheritdoc IReplicaRegistry
    function jobIdOf(ReplicatedJob calldata) external view returns (bytes32) {
        return _jobId();
    }

    /// @inheritdoc IReplicaRegistry
    function ballotOf(bytes32 jobId, uint32 batch) external view returns (Ballot) {
        return _ballots[jobId][batch];
    }

    /// @inheritdoc IReplicaRegistry
    function replicaOf(bytes32 jobId, uint32 batch, address provider) external view returns (Replica) {
        return _replicas[jobId][batch][provider];
    }

    /// @inheritdoc IReplicaRegistry
    function opensAt(ReplicatedJob calldata job, uint32 batch, address provider) external view returns (uint256 at) {
        (bytes32 jobId,) = _posted();
        Balance memory entry = _ESCROW.balanceOf(provider);
        Voter memory voter = Voter(entry.stake, entry.stakedBlock, 0);
        (at,) = _turn(job, jobId, batch, _ballotAt(job, jobId, batch), provider, voter);
    }

    /// @inheritdoc IReplicaRegistry
    function leaseLock(ReplicatedJob calldata job, uint32 batch) public view returns (uint256) {
        uint256 share = Math.min(Math.max(job.assurance.auditBps, _AUDIT_FLOOR_BPS), MOST_AUDIT_BPS);
        // A worst case is below 2^192.
        unchecked {
            return (job.job.worst(batch) * (BPS - share) + share - 1) / share;
        }
    }

    /// The job is the first argument of every call, nineteen words without a pointer: these bytes are abi.encode(job).
    function _jobId() private view returns (bytes32) {
        return keccak256(abi.encode(_CHAIN_ID, address(this), keccak256(msg.data[4:4 + 32 * JOB_WORDS])));
    }

    function _posted() private view returns (bytes32 jobId, Ballot head) {
        jobId = _jobId();
        head = _ballots[jobId][0];
        if (!head.isPosted()) revert UnknownJob(jobId);
    }

    function _asRequester(ReplicatedJob calldata job) private view returns (bytes32 jobId, Ballot head) {
        (jobId, head) = _posted();
        if (msg.sender != job.job.requester) revert NotRequester(msg.sender, job.job.requester);
    }

    function _ballotAt(ReplicatedJob calldata job, bytes32 jobId, uint32 batch) private view returns (Ballot) {
        uint32 count = job.job.batchCount();
        if (batch >= count) revert NoSuchBatch(batch, count);
        return _ballots[jobId][batch];
    }

    function _replicaIn(bytes32 jobId, uint32 batch, address provider, ReplicaState state)
        private
        view
        returns (Replica replica)
    {
        replica = _replicas[jobId][batch][provider];
        if (replica.state() != state) revert WrongReplicaState(batch, provider, replica.state());
    }

    /// Stores a batch; the slot of batch 0 keeps the job's state.
    function _set(bytes32 jobId, uint32 number, Ballot ballot) private {
        _ballots[jobId][number] = number == 0 ? ballot.withJob(_ballots[jobId][0]) : ballot;
    }

    /// Whether the other of straggler and backup has taken the slot of a lease.
    function _isBeaten(bytes32 jobId, uint32 number, Replica replica) private view returns (bool) {
        address rival = replica.rival();
        return rival != address(0) && _replicas[jobId][number][rival].state() != ReplicaState.Leased;
    }

    /// Reverts unless leases of the batch may be taken and served.
    function _checkRound(uint32 number, Ballot ballot) private view {
        if (ballot.state() != BallotState.Committing) revert WrongState(number, ballot.state());
        if (block.timestamp > ballot.time()) revert TooLate(number, ballot.time());
    }

    /// The lease of a straggler. Reverts unless a backup of it may be taken.
    function _lateReplica(ReplicatedJob calldata job, bytes32 jobId, uint32 number, address straggler)
        private
        view
        returns (Replica late)
    {
        Ballot ballot = _ballotAt(job, jobId, number);
        _checkRound(number, ballot);
        late = _replicaIn(jobId, number, straggler, ReplicaState.Leased);
        if (
            _ballots[jobId][0].openCount() != 0 || ballot.leased() + ballot.committed() < ballot.wanted()
                || late.isBackup() || late.rival() != address(0)
                || block.timestamp + job.job.leaseSeconds / 2 < late.deadline()
        ) revert NoBackupNeeded(number);
    }

    /// Holds the caller's stake for leases of the batches, and reads what else they depend on.
    function _enter(ReplicatedJob calldata job, uint32[] memory batches) private returns (Voter memory voter) {
        uint256 lock;
        for (uint256 i = 0; i < batches.length; ++i) {
            uint32 count = job.job.batchCount();
            if (batches[i] >= count) revert NoSuchBatch(batches[i], count);
            lock += leaseLock(job, batches[i]);
        }
        voter = _ESCROW.holdVoter(msg.sender, lock);
        if (voter.checks < job.assurance.minChecks) revert RecordTooSmall(voter.checks, job.assurance.minChecks);
    }

    /// Reverts unless the lot lets the caller lease the batch. Stores the seed when it is first needed, and returns the
    /// batch as it is then.
    function _checkTurn(ReplicatedJob calldata job, bytes32 jobId, uint32 number, Ballot ballot, Voter memory voter)
        private
        returns (Ballot)
    {
        if (!job.isSorted()) return ballot;
        (uint256 at, uint64 seed) = _turn(job, jobId, number, ballot, msg.sender, voter);
        if (block.timestamp < at) revert NotDrawnYet(number, at);
        Ballot head = _ballots[jobId][0];
        if (ballot.openedBlock() == 0 && head.seed() == 0 && seed != 0) {
            _ballots[jobId][0] = head.withSeed(seed);
            if (number == 0) return ballot.withSeed(seed);
        }
        return ballot;
    }

    /// When the lot lets `provider` lease a slot of the batch's round, and the seed of that lot. Those whose stake was there before the
    /// round opened come in an order in which each one's chance to be before another is as its stake; all others at its end.
    function _turn(
        ReplicatedJob calldata job,
        bytes32 jobId,
        uint32 number,
        Ballot ballot,
        address provider,
        Voter memory voter
    ) private view returns (uint256 at, uint64 seed) {
        uint256 widen = job.assurance.widenSeconds;
        if (widen == 0) return (0, 0);
        uint256 opened = ballot.openedBlock();
        uint256 from;
        if (opened == 0) {
            Ballot head = _ballots[jobId][0];
            (opened, seed, from) = (head.postBlock(), head.seed(), job.job.rampStart - widen);
        } else {
            from = ballot.time() - 2 * uint256(job.job.leaseSeconds);
        }
        if (seed == 0) {
            bytes32 hash = _hashAfter(opened);
            // Past reading: nobody is before others.
            if (hash == 0) return (from + widen, 0);
            // forge-lint: disable-next-line(unsafe-typecast) 64 bits are plenty: nobody can choose among them.
            seed = uint64(uint256(hash)) | 1;
        }
        if (voter.stakedBlock == 0 || voter.stakedBlock >= opened) return (from + widen, seed);
        uint256 lot = uint64(uint256(keccak256(abi.encode(seed, jobId, number, opened, provider))));
        return (from + Math.min(widen, widen * lot * _MIN_STAKE / (Math.max(voter.stake, 1) << 64)), seed);
    }

    /// A lease ends without a commit. Its slot is free, unless straggler or backup holds it still; the batch is open again if that was
    /// the last trace of work on it.
    function _leave(ReplicatedJob calldata job, bytes32 jobId, uint32 number, Ballot ballot, Replica replica) private {
        address rival = replica.rival();
        if (rival != address(0)) {
            _replicas[jobId][number][rival] = _replicas[jobId][number][rival].withRival(address(0));
        } else {
            ballot = ballot.withLeased(ballot.leased() - 1);
        }
        if (ballot.leased() == 0 && ballot.committed() == 0) _reopen(job, jobId, number, ballot);
        else _set(jobId, number, ballot);
    }

    function _reopen(ReplicatedJob calldata job, bytes32 jobId, uint32 number, Ballot ballot) private {
        _set(jobId, number, ballot.reopened());
        Ballot head = _ballots[jobId][0];
        if (head.isCancelled()) _ESCROW.refund(job.job.requester, job.costOf(number, _FEE_BPS));
        else _ballots[jobId][0] = head.withOpenCount(head.openCount() + 1);
    }

    /// Hash of the block after `number`; 0 if it is past reading.
    function _hashAfter(uint256 number) private view returns (bytes32) {
        if (block.number <= number + 1) revert BlockToCome(number + 1);
        return BlockHash.read(number + 1);
    }

    function _isAudited(ReplicatedJob calldata job, bytes32 jobId, uint32 number, Replica replica)
        private
        view
        returns (bool)
    {
        bytes32 hash = _hashAfter(replica.commitBlock());
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
            _checkEnd(number, ballot);
            // An extra round that found nobody is over.
            if (ballot.revealed() != 0) revert TooLate(number, end);
            end += job.assurance.revealSeconds;
        } else if (ballot.state() == BallotState.Drawing) {
            if (_isAudited(job, jobId, number, replica)) revert WrongState(number, BallotState.Drawing);
            emit Drawn(jobId, number, false);
        } else if (ballot.state() != BallotState.Revealing) {
            revert WrongState(number, ballot.state());
        }
        if (block.timestamp > end) revert TooLate(number, end);
        uint256 limit = job.job.fuelIn(number);
        if (given.fuel > limit) revert FuelAboveLimit(number, given.fuel, limit);
        if (given.root == 0) revert EmptyRoot(number);
        bytes32 commitment =
            keccak256(abi.encode(jobId, number, given.provider, given.root, given.fuel, given.bound, given.salt));
        if (replica.hash() != Ballots.shortened(commitment)) revert WrongCommitment(number);
        _replicas[jobId][number][given.provider] = replica.revealed(_voteHash(given.root, given.fuel));
        emit Revealed(jobId, given.provider, number, given.root, given.fuel, given.outputs);
        uint256 revealed = ballot.revealed() + 1;
        ballot = ballot.withState(BallotState.Revealing).withRevealed(revealed).withTime(end.toUint32());
        if (revealed == ballot.committed()) {
            uint32 finalAt = (block.timestamp + job.job.windowSeconds).toUint32();
            ballot = ballot.withTime(finalAt);
            emit AllRevealed(jobId, number, finalAt);
        }
        _set(jobId, number, ballot);
    }

    /// Reverts unless the time to commit is over, and with it all leases.
    function _checkEnd(uint32 number, Ballot ballot) private view {
        if (block.timestamp <= ballot.time()) revert TooEarly(number, ballot.time());
        if (ballot.leased() != 0) revert LeasesToExpire(number);
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
            _checkEnd(number, ballot);
            if (ballot.revealed() != 0) return (ballot, finalAt);
            finalAt += job.assurance.revealSeconds;
        } else if (ballot.state() != BallotState.Revealing) {
            revert WrongState(number, ballot.state());
        } else if (ballot.revealed() == ballot.committed()) {
            return (ballot, finalAt);
        }
        if (block.timestamp <= finalAt) revert TooEarly(number, finalAt);
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
        for (uint256 i = 0; i < votes.length; ++i) {
            Vote memory vote = votes[i];
            Replica replica = _replicas[jobId][number][vote.provider];
            if (!_isVote(replica, vote) || vote.provider <= last) revert WrongVotes(number);
            (last, checks[i]) = (vote.provider, replica.checks());
        }
        uint256 best;
        (best, count.agreed, count.accepted) = Votes.tally(votes, checks, job.assurance.target, _FAULTY_BPS);
        count.winner = votes[best];
        // One replica, not drawn or nobody to audit it: the requester asked for no vote.
        if (votes.length == 1 && job.assurance.replicas == 1) count.accepted = votes[0].root != 0;
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
        uint32 end = (block.timestamp + 2 * uint256(job.job.leaseSeconds)).toUint32();
        next = ballot.nextRound(end, block.number.toUint32(), audit);
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
        emit BatchEnded(count.jobId, count.batch, end, count.winner.root, count.winner.fuel, refund, count.burned);
        uint256 award = verdict == Verdict.Wrong ? count.agreed * (lock / 2) : 0;
        _ESCROW.settle(job.job.requester, refund, count.burned, award, shares);
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
        (bool wins, bool loses) = _fate(end, verdict, agrees, vote.root != 0);
        Replica replica = _replicas[count.jobId][count.batch][vote.provider];
        uint256 payment = Jobs.payment(vote.fuel, job.job.priceAt(replica.step()));
        share.provider = vote.provider;
        if (end == BallotState.Open) {
            _replicas[count.jobId][count.batch][vote.provider] = Replica.wrap(uint256(ReplicaState.Done));
        } else if (end == BallotState.Undecided) {
            count.burned += payment / 2;
        } else if (wins) {
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

    /// Whether a vote is paid, and whether it costs its provider. One that was never revealed is worth no more than a wrong one,
    /// wherever there is one.
    function _fate(BallotState end, Verdict verdict, bool agrees, bool revealed)
        private
        pure
        returns (bool wins, bool loses)
    {
        if (end == BallotState.Settled) return (agrees, !agrees);
        if (end == BallotState.Undecided) return (false, false);
        return (false, !revealed || verdict == Verdict.Wrong && agrees);
    }
}
