// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Part} from "../../interfaces/IDeployment.sol";
import {Verdict} from "../../interfaces/IDisputes.sol";
import {Permit, Voter} from "../../interfaces/IEscrow.sol";
import {BatchState, Contact, IJobRegistry, Job, Result, Submission} from "../../interfaces/IJobRegistry.sol";
import {Parts} from "./Parts.sol";
import {Symbolic} from "./Symbolic.sol";

/// @notice I2, paid at most once, by induction: whatever is stored, only `accept` and `finalise` pay, they pay batches that were submitted
/// and are settled from then on, each once, and what is settled stays so through every call. So no sequence of calls pays twice.
/// @dev Of a job of two batches, the first of which keeps the job's state, too; a call names one of them, a payment both. Accounts,
/// times, states, prices and results are any.
contract JobRegistrySymbolicTest is Symbolic {
    address private constant REQUESTER = address(0xa1);

    IJobRegistry private registry;
    Parts private parts;

    function setUp() public {
        parts = new Parts();
        for (uint8 i = 0; i < 8; ++i) {
            _place(Part(i), address(parts));
        }
        registry = IJobRegistry(_create("JobRegistry"));
    }

    /// What follows leaves a settled batch as it is, and pays nobody.
    modifier leavesSettled(uint8 about, uint32 time, uint32 number) {
        uint32 batch = _pick(about);
        _anyState(time, number);
        vm.assume(_state(batch) == BatchState.Settled);
        _;
        assert(_state(batch) == BatchState.Settled);
        assert(parts.paid() == 0);
    }

    function check_lease_leavesSettled(uint8 about, uint8 given, address caller, uint32 time, uint32 number)
        public
        leavesSettled(about, time, number)
    {
        vm.prank(caller);
        registry.lease(_job(), _list(given));
    }

    function check_release_leavesSettled(uint8 about, uint8 given, address caller, uint32 time, uint32 number)
        public
        leavesSettled(about, time, number)
    {
        vm.prank(caller);
        registry.release(_job(), _list(given));
    }

    function check_expire_leavesSettled(uint8 about, uint8 given, address caller, uint32 time, uint32 number)
        public
        leavesSettled(about, time, number)
    {
        vm.prank(caller);
        registry.expire(_job(), _list(given));
    }

    function check_submit_leavesSettled(
        uint8 about,
        uint8 given,
        bytes32 root,
        uint64 fuel,
        address caller,
        uint32 time,
        uint32 number
    ) public leavesSettled(about, time, number) {
        Result[] memory results = new Result[](1);
        results[0] = Result(_pick(given), root, fuel, root);
        vm.prank(caller);
        registry.submit(_job(), results);
    }

    function check_cancel_leavesSettled(uint8 about, address caller, uint32 time, uint32 number)
        public
        leavesSettled(about, time, number)
    {
        vm.prank(caller);
        registry.cancel(_job());
    }

    function check_freeze_leavesSettled(
        uint8 about,
        uint8 given,
        Submission calldata like,
        address caller,
        uint32 time,
        uint32 number
    ) public leavesSettled(about, time, number) {
        vm.prank(caller);
        registry.freeze(_job(), _like(given, like));
    }

    function check_resolve_leavesSettled(
        uint8 about,
        uint8 given,
        Submission calldata like,
        Verdict verdict,
        uint32 time,
        uint32 number
    ) public leavesSettled(about, time, number) {
        parts.answer(verdict, Voter(0, 0, 0));
        registry.resolve(_job(), _like(given, like));
    }

    /// What it rejects it does not pay, and it is settled as well.
    function check_reject_leavesSettled(
        uint8 about,
        uint8 given,
        Submission calldata like,
        address caller,
        uint32 time,
        uint32 number
    ) public leavesSettled(about, time, number) {
        vm.prank(caller);
        registry.reject(_job(), _like(given, like), _noPermit());
    }

    function check_setContact_leavesSettled(uint8 about, address caller, uint32 time, uint32 number)
        public
        leavesSettled(about, time, number)
    {
        vm.prank(caller);
        registry.setContact(_job(), _contact());
    }

    function check_amend_leavesSettled(uint8 about, bool away, address caller, uint32 time, uint32 number)
        public
        leavesSettled(about, time, number)
    {
        Job memory other = _job();
        other.nonce = 2;
        vm.prank(caller);
        if (away) registry.amend(_job(), other, _noPermit());
        else registry.amend(other, _job(), _noPermit());
    }

    function check_settling_paysEachSubmittedBatchOnce(
        uint8[2] calldata given,
        Submission[2] calldata like,
        address caller,
        bool accepted,
        uint32 time
    ) public {
        _anyState(time, 0);
        Submission[] memory submissions = new Submission[](2);
        (submissions[0], submissions[1]) = (_like(given[0], like[0]), _like(given[1], like[1]));
        BatchState first = _state(submissions[0].batch);
        BatchState second = _state(submissions[1].batch);
        vm.prank(caller);
        if (accepted) registry.accept(_job(), submissions);
        else registry.finalise(_job(), submissions);
        assert(submissions[0].batch != submissions[1].batch);
        assert(first == BatchState.Submitted);
        assert(second == BatchState.Submitted);
        assert(_state(submissions[0].batch) == BatchState.Settled);
        assert(_state(submissions[1].batch) == BatchState.Settled);
        assert(parts.paid() == 2);
    }

    function check_settling_leavesSettled(
        uint8 about,
        uint8 given,
        Submission calldata like,
        bool accepted,
        uint32 time
    ) public {
        uint32 batch = _pick(about);
        _anyState(time, 0);
        vm.assume(_state(batch) == BatchState.Settled);
        Submission[] memory submissions = new Submission[](1);
        submissions[0] = _like(given, like);
        vm.prank(REQUESTER);
        if (accepted) registry.accept(_job(), submissions);
        else registry.finalise(_job(), submissions);
        assert(submissions[0].batch != batch);
        assert(_state(batch) == BatchState.Settled);
    }

    function _anyState(uint32 time, uint32 number) private {
        svm.enableSymbolicStorage(address(registry));
        vm.warp(time);
        vm.roll(number);
    }

    function _state(uint32 batch) private view returns (BatchState) {
        return registry.batchState(_job(), batch).state;
    }

    function _job() private pure returns (Job memory) {
        return Job(REQUESTER, 1, keccak256("spec"), 8, 4, 1e9, 1e15, 1e18, 1000, 1000, 100, 60);
    }

    /// By numbers, of which Halmos has paths of their own.
    function _pick(uint8 batch) private pure returns (uint32) {
        return batch == 0 ? 0 : 1;
    }

    function _list(uint8 given) private pure returns (uint32[] memory list) {
        list = new uint32[](1);
        list[0] = _pick(given);
    }

    function _like(uint8 batch, Submission calldata like) private pure returns (Submission memory) {
        return Submission(_pick(batch), like.provider, like.price, like.root, like.fuel);
    }

    function _noPermit() private pure returns (Permit memory permit) {}

    function _contact() private pure returns (Contact memory contact) {}
}
