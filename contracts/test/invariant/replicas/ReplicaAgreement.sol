// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Balance} from "../../../interfaces/IEscrow.sol";
import {Provider} from "../../../interfaces/IProviderRegistry.sol";
import {BallotState, ReplicaState, ReplicatedJob} from "../../../interfaces/IReplicaRegistry.sol";
import {Ballot, Ballots, Replica} from "../../../libraries/Ballots.sol";
import {GhostBallot, GhostReplica} from "./ReplicaGhosts.sol";
import {ReplicaModel} from "./ReplicaModel.sol";

/// @notice The contracts, compared with the model. Where the books are, since to hand them over costs more than to compare them.
abstract contract ReplicaAgreement is ReplicaModel {
    /// Numbers of the jobs of which something can change, or could when the last one was posted.
    uint256[] internal _current;
    /// What all actors had at first.
    uint256 private immutable _BROUGHT;

    constructor() {
        _BROUGHT = _wealth();
    }

    function currentJobs() external view returns (uint256[] memory) {
        return _current;
    }

    /// Reads the jobs of which something can change; all if `all`.
    function assertAgreement(bool all) external view {
        uint256[] memory deposits = new uint256[](actors.length);
        uint256[] memory holds = new uint256[](actors.length);
        uint256 count = all ? _posted.length : _current.length;
        for (uint256 i = 0; i < count; ++i) {
            _jobAgrees(_posted[all ? i : _current[i]], deposits, holds);
        }
        uint256 sum = _ESCROW.burnable() + donated;
        for (uint256 a = 0; a < actors.length; ++a) {
            sum += _accountAgrees(actors[a], deposits[a], holds[a]);
        }
        uint256 cases = _ESCROW.balanceOf(address(_DISPUTES)).available;
        assertEq(cases, unclaimed(), "Disputes holds bonds and shares that nobody has claimed");
        assertEq(_TOKEN.balanceOf(address(_ESCROW)), sum + cases, "conservation");
        assertEq(_ESCROW.burnable(), burnable, "burnable");
        assertEq(reopenedCancelled, batchesCancelled, "late refunds are told");
        assertEq(string(broken), "", "what must be refused is, with declared errors");
        // I5: accounts that only pay each other have what they brought less what was burned, and no record without its fee.
        assertEq(_wealth() + burned + burnable + donated + cases, _BROUGHT, "a ring has no more than it brought");
        assertGe(feesBurned, checksGiven * _settings.checkFee, "a record costs its fee");
        assertGe(burned + burnable, feesBurned, "fees are burned");
    }

    /// What all actors have, in the Escrow and in their own hands.
    function _wealth() private view returns (uint256 sum) {
        for (uint256 a = 0; a < actors.length; ++a) {
            sum += _TOKEN.balanceOf(actors[a]) + _worthOf(_ESCROW.balanceOf(actors[a]));
        }
    }

    function _worthOf(Balance memory entry) private pure returns (uint256) {
        return uint256(entry.available) + entry.locked + entry.earned + entry.stake;
    }

    function _accountAgrees(address account, uint256 deposits, uint256 holds) private view returns (uint256) {
        Balance memory entry = _ESCROW.balanceOf(account);
        if (entry.locked != deposits) assertEq(entry.locked, deposits, "what batches that are not final may cost");
        if (entry.held != holds) assertEq(entry.held, holds, "the locks of live replicas");
        if (entry.held > entry.stake) revert("a stake covers what it holds");
        _same(abi.encode(entry), abi.encode(_books[account]), "books");
        Provider memory p = _PROVIDERS.providerOf(account);
        _same(abi.encode(p), abi.encode(registrationOf(account)), "registration");
        if (_DISPUTES.lostBy(account) != lostBy[account]) revert("lost disputes");
        return _worthOf(entry);
    }

    function _jobAgrees(ReplicatedJob memory job, uint256[] memory deposits, uint256[] memory holds) private view {
        bytes32 id = idOf(job);
        bool cancelled = isCancelled[id];
        uint32 count = _batchCount(job);
        uint256 open;
        for (uint32 b = 0; b < count; ++b) {
            GhostBallot memory g = _ballots[id][b];
            bool final_ = g.state >= BallotState.Settled || g.state == BallotState.Open && _isClosed(id, b);
            if (g.ends != (g.state >= BallotState.Settled ? 1 : 0)) revert("a batch ends once");
            if (g.state == BallotState.Open && !final_) ++open;
            if (!final_) deposits[_number(job.job.requester)] += _costOf(job, b);
            _ballotAgrees(id, b, g);
            _holdersAgree(id, b, final_, _leaseLockOf(job, b), holds);
        }
        Ballot head = _REPLICAS.ballotOf(id, 0);
        bool right = head.isPosted() && head.isCancelled() == cancelled && head.seed() == seedOf[id];
        assertTrue(right && head.postBlock() == postBlockOf[id], "a job");
        assertEq(head.openCount(), open, "open batches");
    }

    function _holdersAgree(bytes32 id, uint32 b, bool final_, uint256 lock, uint256[] memory holds) private view {
        for (uint256 a = 0; a < actors.length; ++a) {
            GhostReplica storage r = _replicas[id][b][actors[a]];
            Replica have = _REPLICAS.replicaOf(id, b, actors[a]);
            ReplicaState state = r.state;
            if (have.state() != state) assertEq(uint256(have.state()), uint256(state), "a replica's state");
            if (state == ReplicaState.None || state == ReplicaState.Done) continue;
            _replicaAgrees(have, r);
            // Who lost against its backup, or its straggler, holds its stake until it gives the lease back.
            if (state == ReplicaState.Leased || !final_) holds[a] += lock;
        }
    }

    function _ballotAgrees(bytes32 id, uint32 b, GhostBallot memory g) private view {
        Ballot have = _REPLICAS.ballotOf(id, b);
        (uint256 leased, uint256 committed, uint256 revealed) = countsOf(id, b);
        if (have.state() != g.state) assertEq(uint256(have.state()), uint256(g.state), "state");
        if (have.leased() != leased) assertEq(have.leased(), leased, "slots that leases hold");
        if (have.committed() != committed) assertEq(have.committed(), committed, "commits");
        if (have.revealed() != revealed) assertEq(have.revealed(), revealed, "reveals");
        if (have.expiries() != g.expiries) assertEq(have.expiries(), g.expiries, "expiries");
        if (have.wanted() != g.wanted) assertEq(have.wanted(), g.wanted, "wanted");
        if (have.isDrawn() != g.drawn) assertEq(have.isDrawn(), g.drawn, "drawn");
        if (have.openedBlock() != g.openedBlock) assertEq(have.openedBlock(), g.openedBlock, "block of the round");
        // Of a final batch it means nothing any more.
        if (g.state < BallotState.Settled && have.time() != g.time) assertEq(have.time(), g.time, "time");
    }

    function _replicaAgrees(Replica have, GhostReplica storage r) private view {
        if (have.checks() != r.checks) assertEq(have.checks(), r.checks, "checks at the lease");
        if (r.state == ReplicaState.Leased) {
            bool same = have.isBackup() == r.backup && have.rival() == r.rival && have.deadline() == r.until;
            if (!same) revert("a lease");
            return;
        }
        bytes32 hash = r.state == ReplicaState.Committed ? r.hash : keccak256(abi.encode(r.root, r.fuel));
        bool right = have.hash() == Ballots.shortened(hash) && have.commitBlock() == r.commitBlock;
        if (!right || have.isPublic() != r.isPublic) revert("a commit or reveal");
    }

    /// `assertEq` costs a call into the machine: only for its message.
    function _same(bytes memory a, bytes memory b, string memory message) private pure {
        if (keccak256(a) != keccak256(b)) assertEq(a, b, message);
    }

    function _number(address account) private view returns (uint256 a) {
        while (actors[a] != account) ++a;
    }
}
