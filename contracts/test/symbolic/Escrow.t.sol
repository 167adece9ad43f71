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
    struct Money {
        uint256 available;
        uint256 locked;
        uint256 earned;
        uint256 stake;
    }

    address private constant A = address(0xa1);
    address private constant B = address(0xa2);
    address private constant JOBS = address(0xb1);
    address private constant REPLICAS = address(0xb2);
    address private constant PROVIDERS = address(0xb3);
    address private constant DISPUTES = address(0xb4);

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

    /// Balance by balance, as {_settle}.
    function check_pay_itself(uint256 paid, uint256 refunded, uint256 freed, uint256 batches, bool accepted) public {
        address other = _any(A);
        Money memory money = _money(A);
        Money memory others = _money(other);
        uint256 held = token.balanceOf(address(escrow));
        uint256 burnable = escrow.burnable();

        vm.prank(JOBS);
        escrow.pay(A, A, paid, refunded, freed, batches, accepted);

        unchecked {
            uint256 owed = _sum(money);
            money.available += refunded;
            money.locked -= paid + refunded;
            money.earned += paid;
            assert(_sum(money) == owed);
        }
        _assertMoney(A, money);
        _assertMoney(other, others);
        assert(escrow.burnable() == burnable);
        assert(token.balanceOf(address(escrow)) == held);
    }

    function check_pay_another(uint256 paid, uint256 refunded, uint256 freed, uint256 batches, bool accepted)
        public
        conserves(B, A)
    {
        vm.prank(JOBS);
        escrow.pay(A, B, paid, refunded, freed, batches, accepted);
    }

    function check_refund(uint256 amount) public conserves(A, A) {
        vm.prank(JOBS);
        escrow.refund(A, amount);
    }

    function check_settle_noShares(uint256 unlocked, uint256 refunded, uint256 award, uint8 consent) public {
        vm.assume(consent <= uint8(type(Consent).max));
        _settle(A, unlocked, refunded, award, Consent(consent), new Share[](0));
    }

    function check_settle_oneShare_ofItself(
        uint256 unlocked,
        uint256 refunded,
        uint256 award,
        uint256[3] calldata amounts,
        uint8 mark,
        uint8 consent
    ) public {
        vm.assume(consent <= uint8(type(Consent).max));
        _settle(A, unlocked, refunded, award, Consent(consent), _share(A, amounts, mark));
    }

    function check_settle_oneShare_ofAnother(
        uint256 unlocked,
        uint256 refunded,
        uint256 award,
        uint256[3] calldata amounts,
        uint8 mark,
        uint8 consent
    ) public {
        vm.assume(consent <= uint8(type(Consent).max));
        _settle(B, unlocked, refunded, award, Consent(consent), _share(B, amounts, mark));
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

    function _noPermit() private pure returns (Permit memory permit) {}

    function _share(address provider, uint256[3] calldata amounts, uint8 mark)
        private
        pure
        returns (Share[] memory shares)
    {
        vm.assume(mark <= uint8(type(Mark).max));
        shares = new Share[](1);
        shares[0] = Share(provider, amounts[0], amounts[1], amounts[2], Mark(mark));
    }

    /// What `settle` does to each balance, one by one, and that it comes to nothing. A pays `unlocked` in all, `provider` has at most one share.
    /// What is burned of that is told by the rest: sums that the solver would have to see through it does not decide.
    function _settle(
        address provider,
        uint256 unlocked,
        uint256 refunded,
        uint256 award,
        Consent consent,
        Share[] memory shares
    ) private {
        address other = _any(provider);
        Money memory payer = _money(A);
        Money memory worker = provider == A ? payer : _money(provider);
        Money memory disputes = _money(DISPUTES);
        Money memory others = _money(other);
        uint256 held = token.balanceOf(address(escrow));
        uint256 burnable = escrow.burnable();
        Share memory share;
        if (shares.length != 0) share = shares[0];
        uint256 burned;
        unchecked {
            burned = unlocked - refunded - share.paid;
        }

        vm.prank(JOBS);
        escrow.settle(A, refunded, burned, award, consent, shares);

        unchecked {
            uint256 owed = burnable + _sum(payer) + _sum(disputes);
            if (provider != A) owed += _sum(worker);
            payer.available += refunded;
            payer.locked -= unlocked;
            worker.earned += share.paid;
            worker.stake -= share.slashed;
            disputes.available += award;
            burnable += burned + share.slashed - award;
            uint256 sum = burnable + _sum(payer) + _sum(disputes);
            if (provider != A) sum += _sum(worker);
            assert(sum == owed);
        }
        _assertMoney(A, payer);
        _assertMoney(provider, worker);
        _assertMoney(DISPUTES, disputes);
        _assertMoney(other, others);
        assert(escrow.burnable() == burnable);
        assert(token.balanceOf(address(escrow)) == held);
    }

    /// Any state, and any account that the call is not about.
    function _any(address second) private returns (address other) {
        svm.enableSymbolicStorage(address(escrow));
        svm.enableSymbolicStorage(address(token));
        other = svm.createAddress("other");
        vm.assume(other != A && other != second && other != DISPUTES);
    }

    function _sum(Money memory money) private pure returns (uint256) {
        unchecked {
            return money.available + money.locked + money.earned + money.stake;
        }
    }

    function _money(address account) private view returns (Money memory) {
        Balance memory entry = escrow.balanceOf(account);
        return Money(entry.available, entry.locked, entry.earned, entry.stake);
    }

    function _assertMoney(address account, Money memory money) private view {
        Balance memory entry = escrow.balanceOf(account);
        assert(entry.available == money.available);
        assert(entry.locked == money.locked);
        assert(entry.earned == money.earned);
        assert(entry.stake == money.stake);
    }
}
