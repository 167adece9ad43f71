// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";

import {IDeployment, Part, Settings} from "../interfaces/IDeployment.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {Balance, Consent, IEscrow, Mark, Permit, Share} from "../interfaces/IEscrow.sol";
import {Batch, BatchState, Contact, IJobRegistry, Job, Result, Spec, Submission} from "../interfaces/IJobRegistry.sol";
import {IJobRules} from "../interfaces/IJobRules.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {IReplicaRegistry} from "../interfaces/IReplicaRegistry.sol";
import {IReputation, ProviderRecord} from "../interfaces/IReputation.sol";

/// @notice What ConunToken offers.
interface IToken is IERC20, IERC20Metadata, IERC20Permit, IERC5267 {
    function burn(uint256 amount) external;
}

/// @notice A whole deployment, a requester and three providers with tokens; the providers are registered.
abstract contract Fixture is Test {
    uint256 internal constant TOKEN = 1e18;
    uint256 internal constant GIGAFUEL = 1e9;
    uint96 internal constant MIN_STAKE = 100e18;
    uint96 internal constant STAKE = 1000e18;
    uint40 internal constant EXIT_DELAY = 15 days;
    uint40 internal constant CAP = 14 days;
    uint40 internal constant SUCCESSOR_DELAY = 25;
    /// A quarter: a lease locks three times the worst case.
    uint16 internal constant AUDIT_FLOOR_BPS = 2500;
    uint16 internal constant BOND_BPS = 1000;
    /// A fifth: a newcomer's odds are 4.
    uint16 internal constant FAULTY_BPS = 2000;
    uint16 internal constant FEE_BPS = 100;
    uint96 internal constant CHECK_FEE = 1e15;
    uint40 internal constant RULING = 3 days;
    uint96 internal constant CHALLENGE_BOND = 50e18 + 1;
    uint40 internal constant DEMAND = 1 hours;
    uint96 internal constant DEMAND_BOND = 5e18;
    uint32 internal constant LEASE = 1000;
    uint32 internal constant WINDOW = 600;

    IDeployment internal deployment;
    IToken internal token;
    IEscrow internal escrow;
    IProviderRegistry internal providers;
    IJobRegistry internal jobs;
    IReputation internal reputation;
    IReplicaRegistry internal replicas;
    IDisputes internal disputes;
    IJobRules internal rules;

    address internal holder = makeAddr("token holder");
    address internal requester;
    uint256 internal requesterKey;
    address internal alice = makeAddr("alice");
    address internal bob = makeAddr("bob");
    address internal carol = makeAddr("carol");
    address internal stranger = makeAddr("stranger");
    mapping(bytes32 job => mapping(uint32 batch => Submission)) private _submitted;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        vm.roll(1000);
        (requester, requesterKey) = makeAddrAndKey("requester");
        _deploy(_settings());
        vm.prank(holder);
        assertTrue(token.transfer(requester, 1_000_000 * TOKEN));
        vm.prank(requester);
        token.approve(address(escrow), type(uint256).max);
        _register(alice, STAKE);
        _register(bob, STAKE);
        _register(carol, STAKE);
    }

    function _settings() internal view virtual returns (Settings memory) {
        return Settings({
            tokenHolder: holder,
            tokenSupply: 100_000_000 * TOKEN,
            minStake: MIN_STAKE,
            exitDelaySeconds: EXIT_DELAY,
            maxCommitmentSeconds: CAP,
            successorDelayBlocks: SUCCESSOR_DELAY,
            expiryBondBps: BOND_BPS,
            auditFloorBps: AUDIT_FLOOR_BPS,
            faultyBps: FAULTY_BPS,
            feeBps: FEE_BPS,
            checkFee: CHECK_FEE,
            arbiter: address(0),
            rulingSeconds: RULING,
            challengeBond: CHALLENGE_BOND,
            demandSeconds: DEMAND,
            demandBond: DEMAND_BOND
        });
    }

    /// Init codes as deployed: foundry.toml compiles them otherwise than the tests.
    function _codes() internal view returns (bytes[8] memory) {
        return [
            _tokenCode(),
            vm.getCode("Escrow.sol:Escrow"),
            vm.getCode("ProviderRegistry.sol:ProviderRegistry"),
            vm.getCode("JobRegistry.sol:JobRegistry"),
            vm.getCode("Reputation.sol:Reputation"),
            vm.getCode("ReplicaRegistry.sol:ReplicaRegistry"),
            vm.getCode("Disputes.sol:Disputes"),
            vm.getCode("JobRules.sol:JobRules")
        ];
    }

    /// Any token's init code fits a deployment: tests of odd ones put theirs here.
    function _tokenCode() internal view virtual returns (bytes memory) {
        return vm.getCode("ConunToken.sol:ConunToken");
    }

    function _hashes() internal view returns (bytes32[8] memory hashes) {
        bytes[8] memory codes = _codes();
        for (uint256 i = 0; i < 8; ++i) {
            hashes[i] = keccak256(codes[i]);
        }
    }

    function _deploy(Settings memory settings) internal {
        bytes[8] memory codes = _codes();
        deployment = _create(_deploymentCode(settings));
        for (uint8 i = 0; i < 8; ++i) {
            deployment.deploy(Part(i), codes[i]);
        }
        token = IToken(deployment.addressOf(Part.Token));
        escrow = IEscrow(deployment.addressOf(Part.Escrow));
        providers = IProviderRegistry(deployment.addressOf(Part.ProviderRegistry));
        jobs = IJobRegistry(deployment.addressOf(Part.JobRegistry));
        reputation = IReputation(deployment.addressOf(Part.Reputation));
        replicas = IReplicaRegistry(deployment.addressOf(Part.ReplicaRegistry));
        disputes = IDisputes(deployment.addressOf(Part.Disputes));
        rules = IJobRules(deployment.addressOf(Part.JobRules));
    }

    function _deploymentCode(Settings memory settings) internal view returns (bytes memory) {
        return bytes.concat(vm.getCode("Deployment.sol:Deployment"), abi.encode(settings, _hashes()));
    }

    /// `new Deployment`, from its init code; what reverts it reverts this.
    function _create(bytes memory code) internal returns (IDeployment at) {
        assembly ("memory-safe") {
            at := create(0, add(code, 32), mload(code))
            if iszero(at) {
                let free := mload(64)
                returndatacopy(free, 0, returndatasize())
                revert(free, returndatasize())
            }
        }
    }

    function _fund(address account, uint256 amount) internal {
        vm.prank(holder);
        assertTrue(token.transfer(account, amount));
        vm.prank(account);
        token.approve(address(escrow), type(uint256).max);
    }

    function _register(address account, uint256 stake) internal {
        _fund(account, stake);
        vm.prank(account);
        providers.register(_payout(account), _contact(), stake, _noPermit());
    }

    /// A provider's cold address.
    function _payout(address account) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode("payout", account)))));
    }

    function _contact() internal pure returns (Contact memory) {
        return Contact({endpoint: bytes32(uint256(0xe0d)), hint: "127.0.0.1:4433"});
    }

    function _noPermit() internal pure returns (Permit memory permit) {}

    /// `owner`'s permit for the Escrow over its next nonce.
    function _permit(address owner, uint256 key, uint256 value, uint256 deadline)
        internal
        view
        returns (Permit memory permit)
    {
        bytes32 typehash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 body = keccak256(abi.encode(typehash, owner, address(escrow), value, token.nonces(owner), deadline));
        (permit.v, permit.r, permit.s) =
            vm.sign(key, keccak256(abi.encodePacked("\x19\x01", token.DOMAIN_SEPARATOR(), body)));
        (permit.value, permit.deadline) = (value, deadline);
    }

    /// Ten tasks in batches of 4, 4 and 2, at numbers that do not divide.
    function _job() internal view returns (Job memory) {
        return Job({
            requester: requester,
            nonce: 1,
            spec: keccak256(abi.encode(_spec())),
            taskCount: 10,
            batchSize: 4,
            fuelLimit: 3e9 + 7,
            startPrice: 1e18 + 3,
            maxPrice: 1e18 + 3,
            rampStart: 0,
            rampSeconds: 0,
            leaseSeconds: LEASE,
            windowSeconds: WINDOW
        });
    }

    function _spec() internal pure returns (Spec memory) {
        return Spec({
            program: keccak256("program"),
            programRoot: keccak256("program root"),
            inputs: keccak256("inputs"),
            inputRoot: keccak256("input root"),
            memoryLimit: 64 << 20,
            category: 0
        });
    }

    /// Worst case of `tasks` tasks, written apart from the contract's way.
    function _worst(Job memory job, uint256 tasks) internal pure returns (uint256) {
        uint256 product = tasks * job.fuelLimit * job.maxPrice;
        return product % GIGAFUEL == 0 ? product / GIGAFUEL : product / GIGAFUEL + 1;
    }

    function _price(Job memory job, uint64 fuel) internal pure returns (uint256) {
        return uint256(fuel) * job.maxPrice / GIGAFUEL;
    }

    function _post(Job memory job) internal returns (bytes32 jobId) {
        vm.prank(job.requester);
        return jobs.post(job, _spec(), _contact(), _noPermit());
    }

    function _posted() internal returns (Job memory job, bytes32 jobId) {
        job = _job();
        jobId = _post(job);
    }

    function _lease(address who, Job memory job, uint32[] memory batches) internal {
        vm.prank(who);
        jobs.lease(job, batches);
    }

    /// The submission is remembered for {_standing} if it is taken.
    function _submit(address who, Job memory job, uint32 batch, uint64 fuel) internal {
        Submission memory given = _submission(who, job, batch, fuel);
        bytes32 key = keccak256(abi.encode(job));
        vm.prank(who);
        jobs.submit(job, _results(batch, fuel));
        // It may have been refused, as expected.
        try jobs.batchState(job, batch) returns (Batch memory now_) {
            if (now_.submission == _submissionHash(given)) _submitted[key][batch] = given;
        } catch {}
    }

    /// Written apart from the contract's way.
    function _submissionHash(Submission memory given) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(given))) % (1 << 189);
    }

    /// What `accept` and `finalise` take for batches: what `_submit` submitted, or nothing that was ever submitted.
    function _standing(Job memory job, uint32[] memory batches) internal view returns (Submission[] memory list) {
        list = new Submission[](batches.length);
        for (uint256 i = 0; i < batches.length; ++i) {
            list[i] = _submitted[keccak256(abi.encode(job))][batches[i]];
            list[i].batch = batches[i];
        }
    }

    function _expire(Job memory job, uint32[] memory batches) internal {
        vm.prank(stranger);
        jobs.expire(job, batches);
    }

    /// To the first second at which a lease taken now has expired, and a block on.
    function _passLease() internal {
        vm.warp(block.timestamp + LEASE + 1);
        vm.roll(block.number + 1);
    }

    function _result(uint32 batch, uint64 fuel) internal pure returns (Result memory) {
        bytes32 root = keccak256(abi.encode("root", batch, fuel));
        return Result({batch: batch, root: root, fuel: fuel, outputs: keccak256(abi.encode("outputs", batch))});
    }

    function _results(uint32 batch, uint64 fuel) internal pure returns (Result[] memory results) {
        results = new Result[](1);
        results[0] = _result(batch, fuel);
    }

    function _list(uint32 a) internal pure returns (uint32[] memory batches) {
        batches = new uint32[](1);
        batches[0] = a;
    }

    function _list(uint32 a, uint32 b) internal pure returns (uint32[] memory batches) {
        batches = new uint32[](2);
        (batches[0], batches[1]) = (a, b);
    }

    function _list(uint32 a, uint32 b, uint32 c) internal pure returns (uint32[] memory batches) {
        batches = new uint32[](3);
        (batches[0], batches[1], batches[2]) = (a, b, c);
    }

    /// What `_result` and a submission by `who` at the job's highest price come to.
    function _submission(address who, Job memory job, uint32 batch, uint64 fuel)
        internal
        pure
        returns (Submission memory)
    {
        return Submission(batch, who, job.maxPrice, _result(batch, fuel).root, fuel);
    }

    function _submissions(address who, Job memory job, uint32 batch, uint64 fuel)
        internal
        pure
        returns (Submission[] memory submissions)
    {
        submissions = new Submission[](1);
        submissions[0] = _submission(who, job, batch, fuel);
    }

    /// Of an account that is not leaving.
    function _balance(
        uint256 available,
        uint256 locked,
        uint32 accepted,
        uint32 timedOut,
        uint256 earned,
        uint256 stake,
        uint256 held
    ) internal pure returns (Balance memory) {
        return Balance({
            available: uint96(available),
            locked: uint96(locked),
            accepted: accepted,
            timedOut: timedOut,
            earned: uint88(earned),
            stake: uint80(stake),
            held: uint80(held),
            exiting: false,
            stakedBlock: 0,
            checks: 0,
            expired: 0,
            failed: 0,
            withheld: 0
        });
    }

    /// But for the record.
    function _assertBalance(address account, Balance memory expected) internal view {
        Balance memory entry = escrow.balanceOf(account);
        (entry.stakedBlock, entry.checks, entry.expired, entry.failed, entry.withheld) = (0, 0, 0, 0, 0);
        assertEq(abi.encode(entry), abi.encode(expected));
    }

    /// As if `who` had agreed with others `count` times.
    function _passChecks(address who, uint256 count) internal {
        Share[] memory shares = new Share[](1);
        shares[0] = Share(who, 0, 0, 0, Mark.Checked);
        vm.startPrank(address(replicas));
        for (uint256 i = 0; i < count; ++i) {
            escrow.settle(who, 0, 0, 0, Consent.None, shares);
        }
        vm.stopPrank();
    }

    /// Stores the record of `who` as the Escrow does: the third slot of its balance.
    function _setRecord(address who, uint32 checks, uint32 expired, uint32 failed, uint32 withheld) internal {
        uint256 word = uint256(withheld) << 128 | uint256(failed) << 96 | uint256(expired) << 64 | uint256(checks) << 32;
        bytes32 slot = bytes32(uint256(keccak256(abi.encode(who, uint256(0)))) + 2);
        vm.store(address(escrow), slot, bytes32(word | escrow.balanceOf(who).stakedBlock));
        ProviderRecord memory found = reputation.providerRecord(who);
        assertEq(abi.encode(found), abi.encode(ProviderRecord(checks, expired, failed, withheld)));
    }

    function _available(address account) internal view returns (uint256) {
        return escrow.balanceOf(account).available;
    }

    function _locked(address account) internal view returns (uint256) {
        return escrow.balanceOf(account).locked;
    }

    function _earned(address account) internal view returns (uint256) {
        return escrow.balanceOf(account).earned;
    }

    function _state(Job memory job, uint32 batch) internal view returns (BatchState) {
        return jobs.batchState(job, batch).state;
    }

    function _lockedStake(address account) internal view returns (uint256) {
        return escrow.balanceOf(account).held;
    }
}
