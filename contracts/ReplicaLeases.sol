// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {ReplicaStore} from "./ReplicaStore.sol";
import {Balance, Voter} from "./interfaces/IEscrow.sol";
import {Job} from "./interfaces/IJobRegistry.sol";
import {BallotState, IReplicaRegistry, ReplicaState, ReplicatedJob} from "./interfaces/IReplicaRegistry.sol";
import {Ballot, Ballots, Replica} from "./libraries/Ballots.sol";
import {Jobs} from "./libraries/Jobs.sol";
import {Votes} from "./libraries/Votes.sol";

/// @title Leases of replicated jobs: whose turn it is, backups, releases, expiries
abstract contract ReplicaLeases is ReplicaStore {
    using Votes for ReplicatedJob;
    using Jobs for Job;

    /// @inheritdoc IReplicaRegistry
    function lease(ReplicatedJob calldata job, uint32[] calldata batches) external {
        (bytes32 jobId,) = _posted();
        if (batches.length == 0) revert NothingGiven();
        uint256 lock;
        for (uint256 i = 0; i < batches.length; ++i) {
            _ballotAt(job, jobId, batches[i]);
            lock += leaseLock(job, batches[i]);
        }
        Voter memory voter = _enter(job, lock);
        uint16 step = job.job.step();
        uint32 deadline = _after(job.job.leaseSeconds);
        Replica replica = Ballots.leased(step, voter.checks, deadline, false, address(0));
        for (uint256 i = 0; i < batches.length; ++i) {
            uint32 number = batches[i];
            Ballot ballot = _ballots[jobId][number];
            _checkTurn(job, jobId, number, ballot, voter, 0);
            if (ballot.state() == BallotState.Open) {
                Ballot head = _ballots[jobId][0];
                if (head.isCancelled()) revert JobIsCancelled(jobId);
                if (!_isInherited(jobId, head, number)) revert WrongState(number, BallotState.Cancelled);
                _ballots[jobId][0] = head.withOpenCount(head.openCount() - 1);
                ballot = ballot.withState(BallotState.Committing).withWanted(job.assurance.replicas)
                    .withTime(_roundEnd(job));
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
        Voter memory voter = _enter(job, leaseLock(job, number));
        // A lot of its own: else a ring's fresh accounts would wait beside every slot that went to somebody else.
        _checkTurn(job, jobId, number, _ballots[jobId][number], voter, late.deadline() - job.job.leaseSeconds / 2);
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
            _replicas[jobId][number][msg.sender] = Replica.wrap(uint256(ReplicaState.Done));
            if (_isBeaten(jobId, number, replica)) continue;
            uint256 until =
                replica.isBackup() ? replica.activeBlock() : replica.deadline() - job.job.leaseSeconds * 3 / 4;
            if ((replica.isBackup() ? block.number : block.timestamp) > until) revert TooLate(number, until);
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
        _checkPast(number, deadline);
        uint256 expiries = ballot.expiries();
        uint256 stake = leaseLock(job, number);
        uint256 bond = Math.min((job.job.worst(number) * _EXPIRY_BOND_BPS / BPS) << expiries, stake);
        _replicas[jobId][number][provider] = Replica.wrap(uint256(ReplicaState.Done));
        _leave(job, jobId, number, ballot.withExpiries(Math.min(expiries + 1, 15)), replica);
        emit LeaseExpired(jobId, provider, number, bond);
        _ESCROW.expire(provider, stake, bond);
    }

    /// @inheritdoc IReplicaRegistry
    function opensAt(ReplicatedJob calldata job, uint32 batch, address provider) external view returns (uint256 at) {
        (bytes32 jobId,) = _posted();
        Balance memory entry = _ESCROW.balanceOf(provider);
        Voter memory voter = Voter(entry.stake, entry.stakedBlock, 0);
        (at,) = _turn(job, jobId, batch, _ballotAt(job, jobId, batch), provider, voter);
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

    /// Holds the caller's stake for leases, and reads what else they depend on.
    function _enter(ReplicatedJob calldata job, uint256 lock) private returns (Voter memory voter) {
        voter = _ESCROW.holdVoter(msg.sender, lock);
        if (voter.checks < job.assurance.minChecks) revert RecordTooSmall(voter.checks, job.assurance.minChecks);
    }

    /// Reverts unless the lot, which is from `start` on if that is not 0, lets the caller lease the batch. Stores the seed when it is first
    /// needed.
    function _checkTurn(
        ReplicatedJob calldata job,
        bytes32 jobId,
        uint32 number,
        Ballot ballot,
        Voter memory voter,
        uint256 start
    ) private {
        if (!job.isSorted()) return;
        (uint256 at, uint64 seed) = _turn(job, jobId, number, ballot, msg.sender, voter);
        if (start != 0) at = at - _lotStart(job, ballot) + start;
        if (block.timestamp < at) revert NotDrawnYet(number, at);
        Ballot head = _ballots[jobId][0];
        if (ballot.openedBlock() == 0 && head.seed() == 0 && seed != 0) {
            _ballots[jobId][0] = head.withSeed(seed);
        }
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
        uint256 from = _lotStart(job, ballot);
        if (opened == 0) {
            Ballot head = _ballots[jobId][0];
            (opened, seed) = (head.postBlock(), head.seed());
        }
        if (seed == 0) {
            bytes32 hash = _hashAfter(opened);
            // Past reading: nobody is before others.
            if (hash == 0) return (from + widen, 0);
            // forge-lint: disable-next-line(unsafe-typecast) 64 bits are plenty: nobody can choose among them.
            seed = uint64(uint256(hash)) | 1;
        }
        if (voter.stakedBlock >= opened) return (from + widen, seed);
        uint256 lot = uint64(uint256(keccak256(abi.encode(seed, jobId, number, opened, provider))));
        return (from + Math.min(widen, widen * lot * _MIN_STAKE / (Math.max(voter.stake, 1) << 64)), seed);
    }

    /// Block time at which the lot of the batch's round begins.
    function _lotStart(ReplicatedJob calldata job, Ballot ballot) private pure returns (uint256) {
        return ballot.openedBlock() == 0
            ? job.job.rampStart - job.assurance.widenSeconds
            : ballot.time() - 2 * uint256(job.job.leaseSeconds);
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
}
