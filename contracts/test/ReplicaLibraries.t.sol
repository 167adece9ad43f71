// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {BallotState, ReplicaState, Vote} from "../interfaces/IReplicaRegistry.sol";
import {Ballot, Ballots, Replica} from "../libraries/Ballots.sol";
import {BlockHash} from "../libraries/BlockHash.sol";
import {Odds} from "../libraries/Odds.sol";
import {Votes} from "../libraries/Votes.sol";

/// What is written to a slot reads back, and nothing else changes.
contract BallotsTest is Test {
    function testFuzz_eachField_isWrittenAlone(uint256 raw, uint256 value) public pure {
        Ballot ballot = _ballot(raw);
        uint256 four = value % 16;
        BallotState state = BallotState(value % 9);
        Ballot next = ballot.withState(state);
        assertEq(uint8(next.state()), uint8(state));
        _only(ballot, next, 0, 4);
        next = ballot.withWanted(four);
        assertEq(next.wanted(), four);
        _only(ballot, next, 4, 4);
        next = ballot.withLeased(four);
        assertEq(next.leased(), four);
        _only(ballot, next, 8, 4);
        next = ballot.withCommitted(four);
        assertEq(next.committed(), four);
        _only(ballot, next, 12, 4);
        next = ballot.withRevealed(four);
        assertEq(next.revealed(), four);
        _only(ballot, next, 16, 4);
        next = ballot.withExpiries(four);
        assertEq(next.expiries(), four);
        _only(ballot, next, 20, 4);
        next = ballot.withTime(uint32(value));
        assertEq(next.time(), uint32(value));
        _only(ballot, next, 32, 32);
        next = ballot.withSeed(uint64(value));
        assertEq(next.seed(), uint64(value));
        _only(ballot, next, 128, 64);
        next = ballot.withOpenCount(uint24(value));
        assertEq(next.openCount(), uint24(value));
        _only(ballot, next, 230, 24);
    }

    function testFuzz_posted_isAJobAndNoBatch(uint24 count, uint32 block_, bool continued) public pure {
        Ballot head = Ballots.posted(count, block_, continued);
        assertEq(head.isContinued(), continued);
        assertTrue(head.isPosted());
        assertFalse(head.isCancelled());
        assertEq(head.openCount(), count);
        assertFalse(head.isDrawn());
        assertEq(head.postBlock(), block_);
        assertEq(head.seed(), 0);
        assertEq(uint128(Ballot.unwrap(head)), 0);
    }

    function testFuzz_cancelled_hasNothingOpen(uint256 raw) public pure {
        Ballot head = _ballot(raw);
        Ballot next = head.cancelled();
        assertTrue(next.isCancelled());
        assertEq(next.openCount(), 0);
        assertEq(next.isPosted(), head.isPosted());
        _only(head, next, 230, 25);
    }

    function testFuzz_nextRound_wantsOneMoreCommit(uint256 raw, uint32 end, uint32 block_, bool audit) public pure {
        Ballot ballot = _ballot(raw).withCommitted(raw % 15);
        Ballot next = ballot.nextRound(end, block_, audit);
        assertEq(uint8(next.state()), uint8(BallotState.Committing));
        assertEq(next.wanted(), ballot.committed() + 1);
        assertEq(next.time(), end);
        assertEq(next.openedBlock(), block_);
        // Once drawn for an audit, always.
        assertEq(next.isDrawn(), audit || ballot.isDrawn());
        _same(ballot, next, ~(uint256(0xff) | 1 << 24 | uint256(type(uint64).max) << 32));
    }

    function testFuzz_reopened_keepsTheExpiriesAndTheJob(uint256 raw) public pure {
        Ballot ballot = _ballot(raw);
        Ballot next = ballot.reopened();
        assertEq(uint8(next.state()), uint8(BallotState.Open));
        assertEq(next.expiries(), ballot.expiries());
        uint256 kept = 15 << 20 | ~uint256(type(uint128).max);
        assertEq(Ballot.unwrap(next), Ballot.unwrap(ballot) & kept);
    }

    function testFuzz_withJob_takesTheBatchOfOneAndTheJobOfTheOther(uint256 batch, uint256 job) public pure {
        uint256 next = Ballot.unwrap(Ballot.wrap(batch).withJob(Ballot.wrap(job)));
        assertEq(uint128(next), uint128(batch));
        assertEq(next >> 128, job >> 128);
    }

    function testFuzz_aLease_readsBack(
        uint16 step,
        uint32 checks,
        uint32 until,
        bool backup,
        address rival,
        address another
    ) public pure {
        Replica replica = Ballots.leased(step, checks, until, backup, rival);
        _isLease(replica, step, checks, until, backup);
        assertEq(replica.rival(), rival);
        replica = replica.withRival(another);
        _isLease(replica, step, checks, until, backup);
        assertEq(replica.rival(), another);
    }

    function testFuzz_aCommitAndAReveal_keepPriceAndRecord(
        uint16 step,
        uint32 checks,
        uint32 block_,
        bytes32 commitment,
        bytes32 vote,
        bool backup,
        address rival,
        bool public_
    ) public pure {
        Replica replica = Ballots.leased(step, checks, block_ / 2, backup, rival);
        Replica next = replica.committed(block_, commitment, public_);
        assertEq(uint8(next.state()), uint8(ReplicaState.Committed));
        assertEq(next.commitBlock(), block_);
        assertEq(next.hash(), uint256(commitment) % (1 << 180));
        assertEq(next.isPublic(), public_);
        assertFalse(next.isBackup());
        _sameWork(replica, next);
        replica = next.revealed(vote);
        assertEq(uint8(replica.state()), uint8(ReplicaState.Revealed));
        assertEq(replica.commitBlock(), block_);
        assertEq(replica.hash(), uint256(vote) % (1 << 180));
        assertEq(replica.isPublic(), public_);
        _sameWork(replica, next);
    }

    function _isLease(Replica replica, uint16 step, uint32 checks, uint32 until, bool backup) private pure {
        assertEq(uint8(replica.state()), uint8(ReplicaState.Leased));
        assertEq(replica.step(), step);
        assertEq(replica.checks(), checks < 1 << 20 ? checks : (1 << 20) - 1);
        assertEq(replica.deadline(), until);
        assertEq(replica.activeBlock(), until);
        assertEq(replica.isBackup(), backup);
    }

    function _sameWork(Replica a, Replica b) private pure {
        assertEq(a.step(), b.step());
        assertEq(a.checks(), b.checks());
    }

    /// Any slot whose state is one.
    function _ballot(uint256 raw) private pure returns (Ballot) {
        return Ballot.wrap(raw & ~uint256(15) | raw % 9);
    }

    function _only(Ballot before, Ballot next, uint256 shift, uint256 width) private pure {
        _same(before, next, ~(((1 << width) - 1) << shift));
    }

    function _same(Ballot before, Ballot next, uint256 mask) private pure {
        assertEq((Ballot.unwrap(before) ^ Ballot.unwrap(next)) & mask, 0);
    }
}

contract BlockHashTest is Test {
    /// Histories that answer whatever is asked: with the word 1, with more, with less, with a failure.
    bytes private constant ONE = hex"60015f5260205ff3";
    bytes private constant LONG = hex"60015f5260405ff3";
    bytes private constant SHORT = hex"60ff5f53601f5ff3";
    bytes private constant FAILING = hex"60015f5260205ffd";

    function setUp() public {
        vm.roll(1000);
    }

    function test_read_asksTheHistory_onlyForWhatTheOpcodeForgot() public {
        vm.etch(BlockHash.HISTORY, ONE);
        assertEq(uint256(BlockHash.read(1)), 1);
        assertEq(uint256(BlockHash.read(743)), 1);
        assertNotEq(uint256(BlockHash.read(744)), 1);
        assertEq(BlockHash.read(744), blockhash(744));
        assertEq(BlockHash.read(999), blockhash(999));
    }

    function test_read_isZeroForBlocksToCome() public {
        vm.etch(BlockHash.HISTORY, ONE);
        assertEq(BlockHash.read(1000), 0);
        assertEq(BlockHash.read(1001), 0);
    }

    function test_read_isZero_unlessTheHistoryAnswersWithAWord() public {
        assertEq(BlockHash.read(1), 0);
        vm.etch(BlockHash.HISTORY, FAILING);
        assertEq(BlockHash.read(1), 0);
        vm.etch(BlockHash.HISTORY, LONG);
        assertEq(BlockHash.read(1), 0);
        vm.etch(BlockHash.HISTORY, SHORT);
        assertEq(BlockHash.read(1), 0);
    }
}

contract OddsTest is Test {
    /// THREATS.md, votes: newcomers that must agree for an error of 10^-3, 10^-4 and 10^-6.
    function test_newcomers_areAsManyAsTheTableSays() public pure {
        _freshNeeded(500, 1e6, 3);
        _freshNeeded(500, 1e5, 4);
        _freshNeeded(500, 1e3, 5);
        _freshNeeded(2000, 1e6, 5);
        _freshNeeded(2000, 1e5, 7);
        _freshNeeded(2000, 1e3, 10);
    }

    /// THREATS.md, votes: checks that each of two voters needs, and one alone (the table's f / error, and one more to exceed it).
    function test_checks_areAsManyAsTheTableSays() public pure {
        _checksNeeded(500, 1e6, 2, 2);
        _checksNeeded(500, 1e5, 2, 6);
        _checksNeeded(500, 1e3, 2, 51);
        _checksNeeded(2000, 1e6, 2, 7);
        _checksNeeded(2000, 1e5, 2, 21);
        _checksNeeded(2000, 1e3, 2, 201);
        _checksNeeded(500, 1e6, 1, 51);
        _checksNeeded(500, 1e5, 1, 501);
        _checksNeeded(500, 1e3, 1, 50_001);
        _checksNeeded(2000, 1e6, 1, 201);
        _checksNeeded(2000, 1e5, 1, 2001);
        _checksNeeded(2000, 1e3, 1, 200_001);
    }

    function testFuzz_odds_areTheFormulaRoundedDown(uint32 checks, uint16 faulty) public pure {
        uint256 f = bound(faulty, 1, 4999);
        uint256 fresh = 1e6 * (10_000 - f) / f;
        // checks / f - 1, in millionths; below zero it is no odds at all.
        int256 earned = int256(1e10 * uint256(checks) / f) - 1e6;
        uint256 odds = Odds.after_(checks, f);
        assertEq(odds, earned > int256(fresh) ? uint256(earned) : fresh);
        // A bad provider is the exception: whoever is new is believed more than not.
        assertGt(odds, Odds.ONE);
        assertGe(Odds.after_(uint256(checks) + 1, f), odds);
    }

    function testFuzz_times_isAProductThatStops(uint128 group, uint64 vote) public pure {
        uint256 most = 1 << 120;
        uint256 a = bound(group, 0, most);
        uint256 b = bound(vote, 1e6, Odds.after_(Ballots.MOST_CHECKS, 1));
        uint256 product = Odds.times(a, b);
        assertEq(product, a * b / 1e6 < most ? a * b / 1e6 : most);
        assertGe(product, a);
    }

    /// Fifteen of the best records stop at 2^120, and the sums of all groups do not overflow.
    function test_odds_saturate() public pure {
        uint256 group = Odds.ONE;
        for (uint256 i = 0; i < 15; ++i) {
            group = Odds.times(group, Odds.after_(Ballots.MOST_CHECKS, 1));
        }
        assertEq(group, 1 << 120);
        assertTrue(Odds.exceeds(group, group, 999_999_999));
        assertFalse(Odds.exceeds(group, 15 * group, 500_000_000));
        // Saturated or not, certainty is never exceeded.
        assertFalse(Odds.exceeds(group, group, 1e9));
    }

    function testFuzz_exceeds_isTheCredibility(uint64 group, uint64 others, uint32 target) public pure {
        bool exceeds = Odds.exceeds(group, uint256(group) + others, target);
        // Both sides whole: group / (1 + group + others) > target / 10^9.
        assertEq(exceeds, uint256(group) * 1e9 > (uint256(group) + others + 1e6) * target);
        if (target >= 500_000_000) assertTrue(!exceeds || group > others);
    }

    function _freshNeeded(uint256 faulty, uint256 error, uint256 count) private pure {
        for (uint256 n = count - 1; n <= count; ++n) {
            uint256 group = Odds.ofNewcomers(n, faulty);
            assertEq(Odds.exceeds(group, group, 1e9 - error), n == count);
        }
    }

    function _checksNeeded(uint256 faulty, uint256 error, uint256 voters, uint256 checks) private pure {
        for (uint256 k = checks - 1; k <= checks; ++k) {
            uint256 group = Odds.ONE;
            for (uint256 i = 0; i < voters; ++i) {
                group = Odds.times(group, Odds.after_(k, faulty));
            }
            assertEq(Odds.exceeds(group, group, 1e9 - error), k == checks);
        }
    }
}

contract VotesTest is Test {
    /// Up to fifteen votes for up to four results, of voters of any record, against the formula as it is written.
    function testFuzz_tally_isSarmentasCredibility(uint256 raw, uint16[15] memory records, uint32 target, uint16 faulty)
        public
        view
    {
        uint256 f = bound(faulty, 100, 4900);
        uint256 goal = bound(target, 0, 1e9);
        Vote[] memory votes = new Vote[](1 + raw % 15);
        uint256[] memory checks = new uint256[](votes.length);
        // Group 0 is silence; the root alone, or the fuel alone, makes the others differ.
        for (uint256 i = 0; i < votes.length; ++i) {
            uint256 kind = raw >> (8 + 3 * i) & 7;
            votes[i].provider = address(uint160(i + 1));
            if (kind != 0) (votes[i].root, votes[i].fuel) = (bytes32(1 + kind / 4), uint64(kind % 2));
            checks[i] = records[i];
        }
        (uint256 best, uint256 agreed, bool accepted) = this.tally(votes, checks, goal, f);
        uint256[4] memory odds;
        uint256[4] memory size;
        uint256[4] memory first;
        for (uint256 i = votes.length; i > 0; --i) {
            if (votes[i - 1].root != 0) first[_kind(votes[i - 1])] = i - 1;
        }
        for (uint256 i = 0; i < votes.length; ++i) {
            if (votes[i].root == 0) continue;
            uint256 kind = _kind(votes[i]);
            if (size[kind]++ == 0) odds[kind] = 1e6;
            uint256 product = odds[kind] * _odds(checks[i], f) / 1e6;
            odds[kind] = product < 1 << 120 ? product : 1 << 120;
        }
        uint256 sum = 1e6;
        uint256 most;
        for (uint256 kind = 0; kind < 4; ++kind) {
            sum += odds[kind];
            if (odds[kind] > odds[most]) most = kind;
        }
        assertEq(accepted, odds[most] * 1e9 > goal * sum);
        if (odds[most] == 0) {
            assertEq(agreed, 0);
            assertFalse(accepted);
            return;
        }
        uint256 chosen = _kind(votes[best]);
        assertNotEq(votes[best].root, 0);
        assertEq(odds[chosen], odds[most]);
        assertEq(agreed, size[chosen]);
        // Of equally heavy groups the one with the first vote; its first vote names it.
        assertEq(best, first[chosen]);
        for (uint256 kind = 0; kind < 4; ++kind) {
            if (kind != chosen && odds[kind] == odds[chosen]) assertGt(first[kind], best);
        }
    }

    /// Two newcomers against one, a fifth of all bad: odds of 16 and 4, and so a credibility of 16 / 21.
    function test_tally_believesTheMajority_ifItsCredibilityExceedsTheTarget() public view {
        Vote[] memory votes = new Vote[](3);
        for (uint256 i = 0; i < 3; ++i) {
            votes[i] = Vote(address(uint160(i + 1)), bytes32(uint256(i == 0 ? 1 : 2)), 1);
        }
        (uint256 best, uint256 agreed, bool accepted) = this.tally(votes, new uint256[](3), 761_904_761, 2000);
        assertEq(best, 1);
        assertEq(agreed, 2);
        assertTrue(accepted);
        (best, agreed, accepted) = this.tally(votes, new uint256[](3), 761_904_762, 2000);
        assertEq(agreed, 2);
        assertFalse(accepted);
    }

    /// Nobody is believed; whose result events name does not depend on who was last.
    function test_tally_ofATie_namesTheFirst() public view {
        Vote[] memory votes = new Vote[](4);
        for (uint256 i = 0; i < 4; ++i) {
            votes[i] = Vote(address(uint160(i + 1)), bytes32(uint256(i == 0 || i == 3 ? 1 : 2)), 1);
        }
        (uint256 best, uint256 agreed, bool accepted) = this.tally(votes, new uint256[](4), 500_000_000, 2000);
        assertEq(best, 0);
        assertEq(agreed, 2);
        assertFalse(accepted);
    }

    /// Mostly all agree: they are counted in one pass, and nothing else.
    function test_tally_ofVotesThatAgree_takesOnePass() public view {
        Vote[] memory votes = new Vote[](15);
        for (uint256 i = 0; i < 15; ++i) {
            votes[i] = Vote(address(uint160(i + 1)), bytes32(uint256(1)), 1);
        }
        uint256 agreeing = _gasOf(votes);
        votes[14].fuel = 2;
        assertGt(2 * _gasOf(votes), 3 * agreeing);
    }

    /// From a half on no more than one group can be believed.
    function testFuzz_tally_isOfAMajority_fromATargetOfAHalfOn(uint8 for_, uint8 against, uint32 target) public view {
        uint256 a = bound(for_, 0, 7);
        uint256 b = bound(against, 0, 7);
        vm.assume(a + b != 0);
        Vote[] memory votes = new Vote[](a + b);
        for (uint256 i = 0; i < a + b; ++i) {
            votes[i] = Vote(address(uint160(i + 1)), bytes32(uint256(i < a ? 1 : 2)), 1);
        }
        (,, bool accepted) = this.tally(votes, new uint256[](a + b), bound(target, 500_000_000, 1e9), 2000);
        if (a == b) assertFalse(accepted);
    }

    function tally(Vote[] calldata votes, uint256[] calldata checks, uint256 target, uint256 faultyBps)
        external
        pure
        returns (uint256, uint256, bool)
    {
        return Votes.tally(votes, checks, target, faultyBps);
    }

    function _gasOf(Vote[] memory votes) private view returns (uint256 gas) {
        gas = gasleft();
        Votes.tally(votes, new uint256[](votes.length), 900_000_000, 2000);
        return gas - gasleft();
    }

    /// A number from 0 to 3 for each root and fuel that the test makes.
    function _kind(Vote memory vote) private pure returns (uint256) {
        return 2 * (uint256(vote.root) - 1) + vote.fuel;
    }

    /// max((1 - f) / f, s / f - 1) in millionths, f in 1/10,000.
    function _odds(uint256 checks, uint256 f) private pure returns (uint256) {
        uint256 fresh = 1e6 * (10_000 - f) / f;
        uint256 earned = 1e10 * checks / f;
        return earned < 1e6 + fresh ? fresh : earned - 1e6;
    }
}
