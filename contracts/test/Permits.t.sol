// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {Part} from "../interfaces/IDeployment.sol";
import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {Job} from "../interfaces/IJobRegistry.sol";
import {Fixture, IToken} from "./Fixture.sol";

/// @notice A signature is good for one allowance of one owner, on one chain, at one token, for one Escrow, until its deadline.
contract PermitsTest is Fixture {
    /// Order of secp256k1.
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function setUp() public override {
        super.setUp();
        vm.prank(requester);
        token.approve(address(escrow), 0);
    }

    function test_permit_ofAnotherChainIsRefused() public {
        uint256 here = block.chainid;
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        vm.chainId(here + 1);
        _refused(p);
        vm.chainId(here);
        _taken(p);
    }

    function test_permit_ofAnotherTokenIsRefused() public {
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        (IToken here, IEscrow escrowHere) = (token, escrow);
        // The same owner with the same tokens and nonce in a second deployment.
        _deploy(_settings());
        assertTrue(token != here);
        vm.prank(holder);
        assertTrue(token.transfer(requester, 1000));
        _refused(p);
        (token, escrow) = (here, escrowHere);
        _taken(p);
    }

    function test_permit_forAnotherSpenderIsRefused() public {
        IEscrow other = escrow;
        escrow = IEscrow(address(0xe5c));
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        escrow = other;
        _refused(p);
    }

    /// Whoever gives none does not pay for the token's refusal of it.
    function test_noPermit_isNotTried() public {
        vm.prank(requester);
        token.approve(address(escrow), 40);
        vm.expectCall(address(token), abi.encodeWithSelector(token.permit.selector), 0);
        vm.prank(requester);
        escrow.depositWithPermit(requester, 40, _noPermit());
        assertEq(_available(requester), 40);
    }

    function test_permit_isTakenOnce() public {
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        _taken(p);
        _refused(p);
        // Not even after another one of the same words.
        _taken(_permit(requester, requesterKey, 40, block.timestamp));
        _refused(p);
        assertEq(token.nonces(requester), 2);
    }

    function test_permit_isTakenUntilItsDeadline() public {
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp + 10);
        vm.warp(block.timestamp + 11);
        _refused(p);
        vm.warp(block.timestamp - 1);
        _taken(p);
    }

    function test_permit_hasNoSecondSignature() public {
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        Permit memory twin = Permit(p.value, p.deadline, p.v ^ 7, p.r, bytes32(ORDER - uint256(p.s)));
        // The twin is of the same key over the same words, for who checks no further.
        bytes32 digest = _digest(p);
        assertEq(ecrecover(digest, twin.v, twin.r, twin.s), requester);
        vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, twin.s));
        token.permit(requester, address(escrow), twin.value, twin.deadline, twin.v, twin.r, twin.s);
        _refused(twin);
        _taken(p);
        _refused(twin);
    }

    function test_permit_ofNobodyIsRefused() public {
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        p.v = 0;
        vm.expectRevert(ECDSA.ECDSAInvalidSignature.selector);
        token.permit(address(0), address(escrow), p.value, p.deadline, p.v, p.r, p.s);
        _refused(p);
    }

    function test_permit_withAnyOtherWordIsRefused() public {
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        p.value += 1;
        _refused(p);
        p.value -= 1;
        p.deadline += 1;
        _refused(p);
        p.deadline -= 1;
        p.r ^= bytes32(uint256(1));
        _refused(p);
        p.r ^= bytes32(uint256(1));
        _taken(p);
    }

    // In front of the owner

    function test_frontRunPermit_stillPosts() public {
        Job memory job = _job();
        uint256 deposit = rules.depositOf(job, _spec());
        Permit memory p = _permit(requester, requesterKey, deposit, block.timestamp);
        _frontRun(p);
        vm.prank(requester);
        jobs.post(job, _spec(), _contact(), p);
        assertEq(_locked(requester), deposit);
        assertEq(token.allowance(requester, address(escrow)), 0);
    }

    function test_frontRunPermit_stillAddsStake() public {
        vm.prank(holder);
        assertTrue(token.transfer(requester, STAKE));
        vm.startPrank(requester);
        token.approve(address(escrow), STAKE);
        providers.register(requester, _contact(), STAKE, _noPermit());
        vm.stopPrank();
        Permit memory p = _permit(requester, requesterKey, 40, block.timestamp);
        _frontRun(p);
        vm.prank(requester);
        providers.addStake(40, p);
        assertEq(escrow.balanceOf(requester).stake, STAKE + 40);
    }

    /// The allowance that it leaves is the owner's to use: the Escrow takes tokens of its caller only.
    function test_frontRunPermit_givesTheFrontRunnerNothing() public {
        Permit memory p = _permit(requester, requesterKey, 1000 * TOKEN, block.timestamp);
        _frontRun(p);
        vm.startPrank(stranger);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        escrow.deposit(stranger, 40);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        escrow.depositWithPermit(stranger, 40, p);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        providers.register(stranger, _contact(), STAKE, p);
        Job memory job = _job();
        job.requester = stranger;
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        jobs.post(job, _spec(), _contact(), p);
        vm.stopPrank();
        assertEq(token.allowance(requester, address(escrow)), 1000 * TOKEN);
    }

    function test_permitOfMore_leavesTheRestAllowed() public {
        Permit memory p = _permit(requester, requesterKey, 100, block.timestamp);
        vm.prank(requester);
        escrow.depositWithPermit(requester, 40, p);
        assertEq(token.allowance(requester, address(escrow)), 60);
    }

    function test_permitOfLess_isRefused() public {
        Permit memory p = _permit(requester, requesterKey, 39, block.timestamp);
        vm.expectPartialRevert(IERC20Errors.ERC20InsufficientAllowance.selector);
        vm.prank(requester);
        escrow.depositWithPermit(requester, 40, p);
        assertEq(token.nonces(requester), 0, "nothing of it is left");
    }

    // Inner

    function _frontRun(Permit memory p) private {
        vm.prank(stranger);
        token.permit(requester, address(escrow), p.value, p.deadline, p.v, p.r, p.s);
    }

    function _taken(Permit memory p) private {
        uint256 before = _available(requester);
        vm.prank(requester);
        assertEq(escrow.depositWithPermit(requester, 40, p), 40);
        assertEq(_available(requester), before + 40);
    }

    /// By every call that takes one.
    function _refused(Permit memory p) private {
        uint256 nonce = token.nonces(requester);
        bytes memory refusal =
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(escrow), 0, 40);
        vm.prank(requester);
        vm.expectRevert(refusal);
        escrow.depositWithPermit(requester, 40, p);
        // The available balance would do instead.
        uint256 available = _available(requester);
        vm.prank(deployment.addressOf(Part.JobRegistry));
        vm.expectRevert(refusal);
        escrow.lock(requester, available + 40, p);
        vm.prank(deployment.addressOf(Part.ProviderRegistry));
        vm.expectRevert(refusal);
        escrow.stake(requester, available + 40, p);
        assertEq(token.nonces(requester), nonce);
    }

    /// Of the permit that `_permit` makes for the requester.
    function _digest(Permit memory p) private view returns (bytes32) {
        bytes32 typehash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        uint256 nonce = token.nonces(requester);
        bytes32 body = keccak256(abi.encode(typehash, requester, address(escrow), p.value, nonce, p.deadline));
        return keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), body));
    }
}
