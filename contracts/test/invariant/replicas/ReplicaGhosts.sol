// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Standing, Verdict} from "../../../interfaces/IDisputes.sol";
import {Balance} from "../../../interfaces/IEscrow.sol";
import {BallotState, ReplicaState, ReplicatedJob, Reveal, Tally, Vote} from "../../../interfaces/IReplicaRegistry.sol";
import {Calls} from "../Calls.sol";

/// @notice A batch as the events told it.
struct GhostBallot {
    BallotState state;
    uint8 wanted;
    uint8 expiries;
    bool drawn;
    uint32 time;
    uint32 openedBlock;
    /// How often it came to an end that is final.
    uint8 ends;
    Verdict verdict;
}

/// @notice What a provider does for a batch, as the events told it.
struct GhostReplica {
    ReplicaState state;
    bool backup;
    bool isPublic;
    /// Deadline; of a backup, block from which it may commit.
    uint32 until;
    uint32 commitBlock;
    uint32 checks;
    uint128 price;
    address rival;
    /// Of the commitment.
    bytes32 hash;
    bytes32 root;
    uint64 fuel;
}

/// @notice What the votes of a batch say, by exact odds.
struct Said {
    bool accepted;
    bytes32 root;
    uint64 fuel;
    uint256 agreed;
    uint256 revealed;
    uint256 committed;
}

/// @notice What is known of replicated jobs, and the rules, written apart from the contract's way.
abstract contract ReplicaGhosts is Calls {
    ReplicatedJob[] internal _posted;
    mapping(bytes32 jobId => uint256) internal _numbers;
    mapping(bytes32 jobId => bool) public isCancelled;
    /// Of an amended job: batches that were not open in the one that it amends.
    mapping(bytes32 jobId => mapping(uint32 batch => bool)) public isAbsent;
    /// Batches of cancelled jobs that were open again, and events that told so.
    uint256 public reopenedCancelled;
    uint256 public batchesCancelled;
    mapping(bytes32 jobId => uint256) public postBlockOf;
    mapping(bytes32 jobId => uint64) public seedOf;
    mapping(bytes32 jobId => mapping(uint32 batch => GhostBallot)) internal _ballots;
    mapping(bytes32 jobId => mapping(uint32 batch => mapping(address provider => GhostReplica))) internal _replicas;
    /// What was committed to, as only its maker knows.
    mapping(bytes32 jobId => mapping(uint32 batch => mapping(address provider => Reveal))) internal _plans;
    /// Of the call that is being learned: stake that events say is lost.
    mapping(address provider => uint256) internal _slashes;
    /// Checks that records gained, and fees that were burned for votes.
    uint256 public checksGiven;
    uint256 public feesBurned;

    function jobCount() external view returns (uint256) {
        return _posted.length;
    }

    function jobAt(uint256 i) public view returns (ReplicatedJob memory) {
        return _posted[i];
    }

    function idOf(ReplicatedJob memory job) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(_REPLICAS), keccak256(abi.encode(job))));
    }

    /// All votes of a batch, in ascending order of provider.
    function tallyOf(bytes32 id, uint32 batch) public view returns (Tally memory tally) {
        Vote[] memory votes = new Vote[](actors.length);
        uint256 count;
        for (uint256 a = 0; a < actors.length; ++a) {
            GhostReplica storage r = _replicas[id][batch][actors[a]];
            if (!_hasCommitted(r)) continue;
            uint256 at = count++;
            for (; at > 0 && votes[at - 1].provider > actors[a]; --at) {
                votes[at] = votes[at - 1];
            }
            votes[at] = Vote(actors[a], r.root, r.fuel);
        }
        assembly ("memory-safe") {
            mstore(votes, count)
        }
        return Tally(batch, votes);
    }

    /// Slots that leases hold, and how many have committed and revealed.
    function countsOf(bytes32 id, uint32 batch)
        public
        view
        returns (uint256 held, uint256 committed, uint256 revealed)
    {
        for (uint256 a = 0; a < actors.length; ++a) {
            GhostReplica storage r = _replicas[id][batch][actors[a]];
            if (r.state == ReplicaState.Leased) {
                // A backup is none as long as its straggler holds the slot.
                if (r.rival == address(0) || !r.backup && !_isBeaten(id, batch, r)) ++held;
            } else if (_hasCommitted(r)) {
                ++committed;
                if (r.state == ReplicaState.Revealed) ++revealed;
            }
        }
    }

    /// By odds that are whole numbers: with an assumed share of a fifth, 4 of a newcomer, 5 s - 1 after s > 1 checks.
    function saidIn(bytes32 id, uint32 batch) public view returns (Said memory said) {
        Vote[] memory votes = tallyOf(id, batch).votes;
        ReplicatedJob memory job = _jobOf(id);
        said.committed = votes.length;
        uint256 sum = 1;
        uint256 best;
        bool alike = _ballots[id][batch].drawn && _differ(votes);
        for (uint256 i = 0; i < votes.length; ++i) {
            if (votes[i].root == 0) continue;
            ++said.revealed;
            uint256 odds = 1;
            uint256 size;
            bool first = true;
            for (uint256 j = 0; j < votes.length; ++j) {
                if (votes[j].root != votes[i].root || votes[j].fuel != votes[i].fuel) continue;
                if (j < i) first = false;
                uint256 checks = alike ? 0 : _replicas[id][batch][votes[j].provider].checks;
                odds *= checks > 1 ? 5 * checks - 1 : 4;
                ++size;
            }
            if (first) sum += odds;
            if (odds > best) (best, said.root, said.fuel, said.agreed) = (odds, votes[i].root, votes[i].fuel, size);
        }
        said.accepted = best * 1e9 > uint256(job.assurance.target) * sum;
        if (votes.length == 1 && job.assurance.replicas == 1) said.accepted = said.revealed == 1;
    }

    /// Whether two have revealed different results.
    function _differ(Vote[] memory votes) private pure returns (bool) {
        for (uint256 i = 0; i < votes.length; ++i) {
            for (uint256 j = 0; j < i; ++j) {
                bool equal = votes[i].root == votes[j].root && votes[i].fuel == votes[j].fuel;
                if (!equal && votes[i].root != 0 && votes[j].root != 0) return true;
            }
        }
        return false;
    }

    /// The lot: those with more stake sooner, those whose stake came later at the end.
    function _checkTurn(ReplicatedJob memory job, bytes32 id, uint32 batch, address who, GhostBallot storage g)
        internal
    {
        uint256 widen = job.assurance.widenSeconds;
        if (widen == 0) return;
        bool first = g.openedBlock == 0;
        uint256 opened = first ? postBlockOf[id] : g.openedBlock;
        uint256 from = first ? job.job.rampStart - widen : g.time - 2 * job.job.leaseSeconds;
        uint64 seed = first ? seedOf[id] : 0;
        if (seed == 0) {
            _check(block.number > opened + 1, "the block that decides is there");
            bytes32 hash = blockhash(opened + 1);
            if (hash != 0) seed = uint64(uint256(hash)) | 1;
            if (first) seedOf[id] = seed;
        }
        uint256 wait = widen;
        Balance storage book = _books[who];
        if (seed != 0 && book.stakedBlock < opened) {
            uint256 lot = uint256(keccak256(abi.encode(seed, id, batch, opened, who))) % (1 << 64);
            uint256 turn = widen * lot * _settings.minStake / uint256(book.stake) / (1 << 64);
            if (turn < wait) wait = turn;
        }
        _check(block.timestamp >= from + wait, "nobody leases before its turn");
    }

    function openCountOf(bytes32 id) public view returns (uint256 open) {
        for (uint32 b = 0; b < _batchCount(_jobOf(id)); ++b) {
            if (_ballots[id][b].state == BallotState.Open && !_isClosed(id, b)) ++open;
        }
    }

    /// Whether nobody can have the batch any more although nobody had it.
    function _isClosed(bytes32 id, uint32 batch) internal view returns (bool) {
        return isCancelled[id] || isAbsent[id][batch];
    }

    /// Most that a batch may cost.
    function _costOf(ReplicatedJob memory job, uint32 batch) internal view returns (uint256) {
        uint256 all = job.assurance.limit * _worstOf(job, batch);
        return all + (all * _settings.feeBps + 9999) / 10_000;
    }

    function _leaseLockOf(ReplicatedJob memory job, uint32 batch) internal view returns (uint256) {
        uint256 share = job.assurance.auditBps;
        if (share == 0) share = _settings.auditFloorBps;
        else if (share < 500) share = 500;
        else if (share > 5000) share = 5000;
        return (_worstOf(job, batch) * (10_000 - share) + share - 1) / share;
    }

    function _rampOf(ReplicatedJob memory job) internal view returns (uint128) {
        (uint256 start, uint256 length) = (job.job.rampStart, job.job.rampSeconds);
        if (block.timestamp >= start + length) return job.job.maxPrice;
        if (block.timestamp <= start) return job.job.startPrice;
        uint256 step = (block.timestamp - start) * 65_535 / length;
        return uint128(job.job.startPrice + (job.job.maxPrice - job.job.startPrice) * step / 65_535);
    }

    function _worstOf(ReplicatedJob memory job, uint32 batch) internal pure returns (uint256) {
        return (_tasksIn(job, batch) * job.job.fuelLimit * job.job.maxPrice + 1e9 - 1) / 1e9;
    }

    function _tasksIn(ReplicatedJob memory job, uint32 batch) internal pure returns (uint256) {
        uint256 left = job.job.taskCount - batch * job.job.batchSize;
        return left < job.job.batchSize ? left : job.job.batchSize;
    }

    function _batchCount(ReplicatedJob memory job) internal pure returns (uint32) {
        return (job.job.taskCount + job.job.batchSize - 1) / job.job.batchSize;
    }

    function _isBeaten(bytes32 id, uint32 batch, GhostReplica storage r) internal view returns (bool) {
        return r.rival != address(0) && _replicas[id][batch][r.rival].state != ReplicaState.Leased;
    }

    function _hasCommitted(GhostReplica storage r) internal view returns (bool) {
        return r.state == ReplicaState.Committed || r.state == ReplicaState.Revealed;
    }

    /// Nothing of the lease is left.
    function _reset(bytes32 id, uint32 batch, address who, ReplicaState state) internal {
        delete _replicas[id][batch][who];
        _replicas[id][batch][who].state = state;
    }

    function _standingOf(bytes32 id, uint32 batch) internal view override returns (Standing memory) {
        ReplicatedJob memory job = _jobOf(id);
        GhostBallot storage g = _ballots[id][batch];
        Said memory said = saidIn(id, batch);
        uint32 finalAt = g.time;
        if (g.state == BallotState.Revealing && said.revealed != said.committed) finalAt += job.job.windowSeconds;
        uint32 first = batch * job.job.batchSize;
        return
            Standing(id, batch, job.job.requester, said.root, said.fuel, first, uint32(_tasksIn(job, batch)), finalAt);
    }

    function _fuelLimitOf(bytes32 id) internal view override returns (uint64) {
        return _jobOf(id).job.fuelLimit;
    }

    function _requesterOf(bytes32 id) internal view returns (address) {
        return _posted[_numbers[id] - 1].job.requester;
    }

    function _jobOf(bytes32 id) internal view returns (ReplicatedJob memory) {
        return _posted[_numbers[id] - 1];
    }
}
