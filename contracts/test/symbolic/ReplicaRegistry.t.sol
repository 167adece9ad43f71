// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Part} from "../../interfaces/IDeployment.sol";
import {Verdict} from "../../interfaces/IDisputes.sol";
import {Permit, Voter} from "../../interfaces/IEscrow.sol";
import {Contact, Job} from "../../interfaces/IJobRegistry.sol";
import {
    Assurance,
    BallotState,
    Commitment,
    IReplicaRegistry,
    Opening,
    ReplicatedJob,
    Reveal,
    Tally,
    Vote
} from "../../interfaces/IReplicaRegistry.sol";
import {Ballot} from "../../libraries/Ballots.sol";
import {Parts} from "./Parts.sol";
import {Symbolic} from "./Symbolic.sol";

/// @notice I2, paid at most once, by induction, as {JobRegistrySymbolicTest} for jobs of several executions: whatever is stored, a batch that is
/// final stays as it is through every call, and a call that pays anybody makes the batch final that it was about. A batch whose round is over has
/// commits and no leases: what is assumed of that before a call holds after it.
/// @dev Of a job of two batches and three executions, the first batch of which keeps the job's state, too; a call names one of them, a tally one
/// vote. Accounts, times, states, roots and fuels are any.
abstract contract ReplicaSymbolic is Symbolic {
    address private constant REQUESTER = address(0xa1);

    IReplicaRegistry internal registry;
    Parts internal parts;

    function setUp() public {
        parts = new Parts();
        for (uint8 i = 0; i < 8; ++i) {
            _place(Part(i), address(parts));
        }
        registry = IReplicaRegistry(_create("ReplicaRegistry"));
    }

    /// What follows is about the batch `given`.
    modifier paysOnce(uint8 given, uint32 time, uint32 number) {
        svm.enableSymbolicStorage(address(registry));
        vm.warp(time);
        vm.roll(number);
        bytes32 jobId = registry.jobIdOf(_job());
        BallotState[2] memory before;
        for (uint32 i = 0; i < 2; ++i) {
            before[i] = _state(jobId, i);
            vm.assume(_isWhole(registry.ballotOf(jobId, i)));
        }
        _;
        for (uint32 i = 0; i < 2; ++i) {
            BallotState state = _state(jobId, i);
            if (_isFinal(before[i])) assert(state == before[i]);
            else if (i == _pick(given) && parts.paid() != 0) assert(_isFinal(state));
            assert(_isWhole(registry.ballotOf(jobId, i)));
        }
        if (_isFinal(before[_pick(given)])) assert(parts.paid() == 0);
    }

    function _state(bytes32 jobId, uint32 batch) internal view returns (BallotState) {
        return registry.ballotOf(jobId, batch).state();
    }

    function _isFinal(BallotState state) internal pure returns (bool) {
        return state == BallotState.Settled || state == BallotState.Undecided || state == BallotState.Overturned;
    }

    /// While commits come in, no more slots are taken than are wanted; afterwards nobody holds a lease, somebody has committed, and no more than
    /// were wanted. No more are wanted than the job allows, and in the first round as many as it begins with. Of what is open nothing is said.
    function _isWhole(Ballot ballot) internal pure returns (bool) {
        BallotState state = ballot.state();
        if (state == BallotState.Open || state == BallotState.Cancelled) return true;
        if (ballot.wanted() > 5) return false;
        bool drawing = state == BallotState.Drawing;
        if (state == BallotState.Committing || drawing) {
            if (ballot.isFirstRound() ? ballot.wanted() != 3 : drawing) return false;
        }
        if (state == BallotState.Committing) return ballot.leased() + ballot.committed() <= ballot.wanted();
        return ballot.leased() == 0 && ballot.committed() != 0 && ballot.committed() <= ballot.wanted();
    }

    function _job() internal pure returns (ReplicatedJob memory) {
        Job memory job = Job(REQUESTER, 1, keccak256("spec"), 8, 4, 1e9, 1e15, 1e18, 1000, 1000, 100, 60);
        return ReplicatedJob(job, Assurance(3, 5, 980_000_000, 500, 0, _widenSeconds(), 60));
    }

    /// By numbers, of which Halmos has paths of their own.
    function _pick(uint8 batch) internal pure returns (uint32) {
        return batch == 0 ? 0 : 1;
    }

    function _list(uint8 given) internal pure returns (uint32[] memory list) {
        list = new uint32[](1);
        list[0] = _pick(given);
    }

    function _reveals(uint8 given, Reveal calldata like) internal pure returns (Reveal[] memory list) {
        list = new Reveal[](1);
        list[0] = Reveal(_pick(given), like.provider, like.root, like.fuel, like.outputs, like.bound, like.salt);
    }

    function _tally(uint8 given, Vote calldata vote) internal pure returns (Tally memory tally) {
        tally = Tally(_pick(given), new Vote[](1));
        tally.votes[0] = vote;
    }

    function _widenSeconds() internal pure virtual returns (uint32) {
        return 50;
    }
}

/// @notice Calls about what was leased.
contract ReplicaRegistrySymbolicTest is ReplicaSymbolic {
    function check_release_paysOnce(uint8 given, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        vm.prank(caller);
        registry.release(_job(), _list(given));
    }

    function check_expire_paysOnce(uint8 given, address provider, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        vm.prank(caller);
        registry.expire(_job(), _pick(given), provider);
    }

    function check_commit_paysOnce(uint8 given, bytes32 hash, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        Commitment[] memory list = new Commitment[](1);
        list[0] = Commitment(_pick(given), hash);
        vm.prank(caller);
        registry.commit(_job(), list);
    }

    function check_reveal_paysOnce(uint8 given, Reveal calldata like, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        _assumeCommits(given);
        vm.prank(caller);
        registry.reveal(_job(), _reveals(given, like));
    }

    function check_revealAndAccept_paysOnce(
        uint8 given,
        Reveal calldata like,
        address caller,
        uint32 time,
        uint32 number
    ) public paysOnce(given, time, number) {
        _assumeCommits(given);
        vm.prank(caller);
        registry.revealAndAccept(_job(), _reveals(given, like));
    }

    function check_revealOpened_paysOnce(
        uint8 given,
        Reveal calldata like,
        Opening calldata opening,
        address caller,
        uint32 time,
        uint32 number
    ) public paysOnce(given, time, number) {
        _assumeCommits(given);
        Reveal[] memory list = _reveals(given, like);
        vm.prank(caller);
        registry.revealOpened(_job(), list[0], opening);
    }

    function check_draw_paysOnce(uint8 given, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        vm.prank(caller);
        registry.draw(_job(), _pick(given));
    }

    function check_accept_paysOnce(uint8 given, Vote calldata vote, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        Tally[] memory tallies = new Tally[](1);
        tallies[0] = _tally(given, vote);
        vm.prank(caller);
        registry.accept(_job(), tallies);
    }

    function check_finalise_paysOnce(uint8 given, Vote calldata vote, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        Tally[] memory tallies = new Tally[](1);
        tallies[0] = _tally(given, vote);
        vm.prank(caller);
        registry.finalise(_job(), tallies);
    }

    function check_freeze_paysOnce(uint8 given, Vote calldata vote, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        vm.prank(caller);
        registry.freeze(_job(), _tally(given, vote));
    }

    function check_resolve_paysOnce(
        uint8 given,
        Vote calldata vote,
        Verdict verdict,
        address caller,
        uint32 time,
        uint32 number
    ) public paysOnce(given, time, number) {
        parts.answer(verdict, Voter(0, 0, 0));
        vm.prank(caller);
        registry.resolve(_job(), _tally(given, vote));
    }

    function check_cancel_paysOnce(uint8 given, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        vm.prank(caller);
        registry.cancel(_job());
    }

    function check_setContact_paysOnce(uint8 given, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        Contact memory contact;
        vm.prank(caller);
        registry.setContact(_job(), contact);
    }

    /// That commits are counted: where one can be revealed, more were counted than revealed. Of the map that has them Halmos knows one.
    function _assumeCommits(uint8 given) private view {
        Ballot ballot = registry.ballotOf(registry.jobIdOf(_job()), _pick(given));
        vm.assume(ballot.revealed() < ballot.committed());
    }

    /// What continues the job is another one: of this one's batches none is paid.
    function check_amend_paysOnce(uint8 given, uint64 nonce, address caller, uint32 time, uint32 number)
        public
        paysOnce(given, time, number)
    {
        ReplicatedJob memory terms = _job();
        terms.job.nonce = nonce;
        Permit memory permit;
        vm.prank(caller);
        registry.amend(_job(), terms, permit);
    }
}

/// @notice The same of leases, where no lot decides whose turn it is: with one, there was no answer in time.
contract ReplicaLeasesSymbolicTest is ReplicaSymbolic {
    function check_lease_paysOnce(uint8 given, address caller, uint32 time, uint32 number, Voter calldata voter)
        public
        paysOnce(given, time, number)
    {
        parts.answer(Verdict.Stands, voter);
        vm.prank(caller);
        registry.lease(_job(), _list(given));
    }

    function check_backUp_paysOnce(
        uint8 given,
        address straggler,
        address caller,
        uint32 time,
        uint32 number,
        Voter calldata voter
    ) public paysOnce(given, time, number) {
        parts.answer(Verdict.Stands, voter);
        vm.prank(caller);
        registry.backUp(_job(), _pick(given), straggler);
    }

    function _widenSeconds() internal pure override returns (uint32) {
        return 0;
    }
}
