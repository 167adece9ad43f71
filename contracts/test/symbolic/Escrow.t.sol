// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Part} from "../../interfaces/IDeployment.sol";
import {Balance, Consent, IEscrow, Mark, Permit, Share} from "../../interfaces/IEscrow.sol";
import {Symbolic} from "./Symbolic.sol";

/// @notice I1, conservation: no function of the Escrow changes (tokens held) - (sum of all balances + burnable), whatever its caller
/// passes and whatever is stored, and none changes the balance of an account that it is not about.
/// @dev Accounts are alike to the Escrow but for Disputes, so that A, and where a call is about two, B, stand for all: together or apart.
contract EscrowSymbolicTest is Symbolic {
    address private constant A = address(0xa1);
    address private constant B = address(0xa2);
    address private constant JOBS = address(0xb1);
    address private constant REPLICAS = address(0xb2);
    address private constant PROVIDERS = address(0xb3);
    address private constant DISPUTES = address(0xb4);

    /// A bound, where there has to be one.
    uint256 private constant SMALL = 1 << 32;

    IERC20 private token;
    IEscrow private escrow;

    function setUp() public {
        token = IERC20(_create("ConunToken"));
        _place(Part.Token, address(token));
        _place(Part.JobRegistry, JOBS);
        _place(Part.ReplicaRegistry, REPLICAS);
        _place(Part.ProviderRegistry, PROVIDERS);
        _place(Part.Disputes, DISPUTES);
        escrow = IEscrow(_create("Escrow"));
    }

    /// From any state there may be: any balances, and any allowances, so that a permit has nothing to add. The call is about A, `second`
    /// and `third`, or fewer.
    modifier conserves(address second, address third) {
        svm.enableSymbolicStorage(address(escrow));
        svm.enableSymbolicStorage(address(token));
        vm.assume(escrow.burnable() < 1 << 96);
        vm.assume(token.balanceOf(address(escrow)) < 1 << 96);
        vm.assume(token.balanceOf(A) < 1 << 96);
        address other = svm.createAddress("other");
        vm.assume(other != A);
        vm.assume(other != second);
        vm.assume(other != third);
        uint256 others = _owed(other);
        uint256 held = token.balanceOf(address(escrow));
        uint256 owed = _all(second, third);
        _;
        assert(_owed(other) == others);
        // held - owed is what it was, written without differences.
        assert(token.balanceOf(address(escrow)) + owed == held + _all(second, third));
    }

    function _all(address second, address third) private view returns (uint256 sum) {
        sum = escrow.burnable() + _owed(A);
        if (second != A) sum += _owed(second);
        if (third != A && third != second) sum += _owed(third);
    }

    function _owed(address account) private view returns (uint256) {
        Balance memory entry = escrow.balanceOf(account);
        return uint256(entry.available) + entry.locked + entry.earned + entry.stake;
    }

    function check_deposit_forItself(uint256 amount) public conserves(A, A) {
        vm.prank(A);
        escrow.deposit(A, amount);
    }

    function check_deposit_forAnother(uint256 amount) public conserves(B, A) {
        vm.prank(A);
        escrow.deposit(B, amount);
    }

    function check_withdraw(uint256 amount) public conserves(A, A) {
        vm.prank(A);
        escrow.withdraw(amount);
    }

    function check_burn() public conserves(A, A) {
        escrow.burn();
    }

    function check_lock(bool replicated, uint256 amount) public conserves(A, A) {
        vm.prank(replicated ? REPLICAS : JOBS);
        escrow.lock(A, amount, _noPermit());
    }

    function check_stake(uint256 amount) public conserves(A, A) {
        vm.prank(PROVIDERS);
        escrow.stake(A, amount, _noPermit());
    }

    function check_hold(uint256 amount) public conserves(A, A) {
        vm.prank(JOBS);
        escrow.hold(A, amount);
    }

    function check_holdVoter(uint256 amount) public conserves(A, A) {
        vm.prank(REPLICAS);
        escrow.holdVoter(A, amount);
    }

    function check_free(uint256 amount) public conserves(A, A) {
        vm.prank(JOBS);
        escrow.free(A, amount);
    }

    function check_expire(uint256 amount, uint256 bond) public conserves(A, A) {
        vm.prank(JOBS);
        escrow.expire(A, amount, bond);
    }

    function check_pay_itself(uint256 paid, uint256 refunded, uint256 freed, bool accepted) public conserves(A, A) {
        _assumeSmall(A);
        vm.assume(paid < SMALL && refunded < SMALL && freed < SMALL);
        vm.prank(JOBS);
        escrow.pay(A, A, paid, refunded, freed, 1, accepted);
    }

    function check_pay_another(uint256 paid, uint256 refunded, uint256 freed, bool accepted) public conserves(B, A) {
        vm.prank(JOBS);
        escrow.pay(A, B, paid, refunded, freed, 1, accepted);
    }

    function check_refund(uint256 amount) public conserves(A, A) {
        vm.prank(JOBS);
        escrow.refund(A, amount);
    }

    function check_settle_noShares(uint256 refunded, uint256 burned, uint256 award) public conserves(DISPUTES, A) {
        _assumeSmall(A);
        _assumeSmall(DISPUTES);
        _settle(refunded, burned, award, new Share[](0));
    }

    function check_settle_oneShare_ofItself(
        uint256 refunded,
        uint256 burned,
        uint256 award,
        uint256[3] calldata amounts,
        uint8 mark
    ) public conserves(DISPUTES, A) {
        _assumeSmall(A);
        _assumeSmall(DISPUTES);
        _settle(refunded, burned, award, _share(A, amounts, mark));
    }

    function check_settle_oneShare_ofAnother(
        uint256 refunded,
        uint256 burned,
        uint256 award,
        uint256[3] calldata amounts,
        uint8 mark
    ) public conserves(B, DISPUTES) {
        _assumeSmall(A);
        _assumeSmall(B);
        _assumeSmall(DISPUTES);
        _settle(refunded, burned, award, _share(B, amounts, mark));
    }

    function check_collect(uint256 amount) public conserves(DISPUTES, A) {
        vm.prank(DISPUTES);
        escrow.collect(A, amount, _noPermit());
    }

    function check_give(uint256 amount, uint256 burned) public conserves(DISPUTES, A) {
        vm.prank(DISPUTES);
        escrow.give(A, amount, burned);
    }

    function check_setExiting(bool exiting) public conserves(A, A) {
        vm.prank(PROVIDERS);
        escrow.setExiting(A, exiting);
    }

    function check_leave_toItself() public conserves(A, A) {
        vm.prank(PROVIDERS);
        escrow.leave(A, A);
    }

    function check_leave_toAnother() public conserves(B, A) {
        vm.prank(PROVIDERS);
        escrow.leave(A, B);
    }

    function check_payOut(bool toItself) public conserves(A, A) {
        vm.prank(PROVIDERS);
        escrow.payOut(A, toItself ? A : B);
    }

    /// Where sums of any size are more than the solver decides: of balances and amounts up to a bound.
    function _assumeSmall(address account) private view {
        Balance memory entry = escrow.balanceOf(account);
        vm.assume(entry.available < SMALL && entry.locked < SMALL && entry.earned < SMALL);
        vm.assume(entry.stake < SMALL && entry.held < SMALL);
    }

    function _noPermit() private pure returns (Permit memory permit) {}

    function _share(address provider, uint256[3] calldata amounts, uint8 mark)
        private
        pure
        returns (Share[] memory shares)
    {
        vm.assume(mark <= uint8(type(Mark).max));
        vm.assume(amounts[0] < SMALL && amounts[1] < SMALL && amounts[2] < SMALL);
        shares = new Share[](1);
        shares[0] = Share(provider, amounts[0], amounts[1], amounts[2], Mark(mark));
    }

    function _settle(uint256 refunded, uint256 burned, uint256 award, Share[] memory shares) private {
        vm.assume(refunded < SMALL && burned < SMALL && award < SMALL);
        vm.prank(JOBS);
        escrow.settle(A, refunded, burned, award, Consent.None, shares);
    }
}
