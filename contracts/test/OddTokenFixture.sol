// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Job} from "../interfaces/IJobRegistry.sol";
import {Fixture} from "./Fixture.sol";

/// @notice A deployment takes any init code for its token; these are ones whose token is odd. What arrives is what counts; what
/// cannot be counted is refused, and the Escrow's books never promise more than what it got.
abstract contract OddTokenFixture is Fixture {
    bytes private _code;

    /// Each test chooses its token with `_use`.
    function setUp() public virtual override {
        vm.warp(1_800_000_000);
        vm.roll(1000);
        (requester, requesterKey) = makeAddrAndKey("requester");
    }

    function _tokenCode() internal view override returns (bytes memory) {
        return _code;
    }

    /// The deployment with that token. Alice is registered with what she deposited first, whatever that became on its way.
    function _use(bytes memory code) internal {
        _code = code;
        _deploy(_settings());
        _give(requester, 10_000 * TOKEN);
        _give(alice, 2 * STAKE);
        _give(bob, 2 * STAKE);
        _join(alice);
    }

    /// As `_fund`, from a token that may answer anything.
    function _give(address account, uint256 amount) internal {
        vm.prank(holder);
        (bool ok,) = address(token).call(abi.encodeCall(IERC20.transfer, (account, amount)));
        assertTrue(ok);
        vm.prank(account);
        token.approve(address(escrow), type(uint256).max);
    }

    function _join(address account) internal {
        vm.startPrank(account);
        escrow.deposit(account, STAKE);
        providers.register(_payout(account), _contact(), _available(account), _noPermit());
        vm.stopPrank();
    }

    /// A job of the requester's, whose batch 0 alice has earned.
    function _earn() internal returns (Job memory job, uint256 earned) {
        (job,) = _posted();
        _lease(alice, job, _list(0));
        _submit(alice, job, 0, 1e9);
        vm.prank(requester);
        jobs.accept(job, _standing(job, _list(0)));
        return (job, _price(job, 1e9));
    }

    /// What the books say: nobody but these has an entry.
    function _booked() internal view returns (uint256 sum) {
        address[8] memory accounts =
            [requester, alice, bob, carol, stranger, _payout(alice), _payout(bob), address(this)];
        sum = escrow.burnable();
        for (uint256 i = 0; i < accounts.length; ++i) {
            sum += uint256(_available(accounts[i])) + _locked(accounts[i]) + _earned(accounts[i]);
            sum += escrow.balanceOf(accounts[i]).stake;
        }
    }

    function _assertConserved() internal view {
        assertEq(token.balanceOf(address(escrow)), _booked(), "conservation");
    }

    /// Posts, leases, submits, expires, accepts, finalises, cancels, exits: everybody gets everything out.
    function _wholeLife() internal {
        (Job memory job, uint256 earned) = _earn();
        _assertConserved();
        vm.prank(alice);
        assertEq(providers.withdraw(alice), earned);
        _lease(alice, job, _list(1, 2));
        _submit(alice, job, 1, 1e9);
        _passLease();
        _expire(job, _list(2));
        jobs.finalise(job, _standing(job, _list(1)));
        vm.prank(requester);
        jobs.cancel(job);
        _assertConserved();
        vm.startPrank(alice);
        providers.requestExit();
        vm.warp(block.timestamp + EXIT_DELAY);
        providers.exit();
        vm.stopPrank();
        _assertConserved();
        address[3] memory all = [requester, alice, _payout(alice)];
        for (uint256 i = 0; i < all.length; ++i) {
            uint256 available = _available(all[i]);
            if (available == 0) continue;
            vm.prank(all[i]);
            escrow.withdraw(available);
        }
        assertEq(token.balanceOf(address(escrow)), escrow.burnable(), "nothing but bonds stays");
        assertGt(escrow.burnable(), 0);
    }

    function _burnRest() internal {
        escrow.burn();
        assertEq(token.balanceOf(address(escrow)), 0);
    }
}
