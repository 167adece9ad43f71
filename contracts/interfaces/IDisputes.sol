// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ResultLeaf} from "../libraries/ResultTree.sol";
import {Permit} from "./IEscrow.sol";

/// @notice A result that waits for the end of its window, as its registry tells.
struct Standing {
    bytes32 jobId;
    uint32 batch;
    address requester;
    bytes32 root;
    uint64 fuel;
    /// Index in the job of the batch's first task.
    uint32 firstTask;
    /// Tasks in the batch.
    uint32 tasks;
    /// Block time at which its window ends.
    uint32 finalAt;
}

/// @notice What comes of a disputed result.
enum Verdict {
    /// Nothing was proved against it.
    Stands,
    /// A demanded chunk was not shown: nobody is paid for it.
    Withheld,
    /// A challenge was won: whoever gave it loses the stake that the lease held, and its record.
    Wrong
}

/// @notice One dispute about a standing result.
struct Case {
    // slot 0: 160 + 40 + 8 bits
    /// Who brought it, and its bond.
    address claimant;
    /// Block time until which the arbiter may rule (a challenge) or a provider may answer (a demand).
    uint40 deadline;
    CaseState state;
    // slot 1
    /// keccak256(abi.encode(Standing)).
    bytes32 result;
    // slot 2
    /// keccak256(abi.encode(task, chunk)) of a demand, 0 of a challenge.
    bytes32 demanded;
}

enum CaseState {
    None,
    Open,
    /// Proved: a challenge that the arbiter upheld.
    Won,
    /// Refuted: a challenge that the arbiter denied, a demand that was answered. Its bond is gone.
    Lost,
    /// Its bond, and its share, have been taken.
    Closed
}

/// @notice All disputes about one result.
struct Dispute {
    // slot 0: 40 + 40 + 24 + 24 + 24 + 88 + 8 bits
    /// End of the window.
    uint40 finalAt;
    /// Block time after which nothing can be ruled or answered any more.
    uint40 deadline;
    /// Cases that are neither ruled nor answered.
    uint24 open;
    uint24 won;
    /// Demands among `open`.
    uint24 demands;
    /// What each winner of a challenge gets besides its bond, token wei, once concluded.
    uint88 share;
    bool concluded;
}

/// @notice What a demand asks for.
struct Answer {
    uint32 chunk;
    /// The task's leaf, and its siblings in the result, as {ResultTree-verify} takes them.
    ResultLeaf leaf;
    bytes32[] siblingHashes;
    uint64[] siblingFuels;
    /// The output's bytes from 4096 x chunk on, 4,096 of them or up to the output's end; and what leads from the chunk's node up to the
    /// leaf's outputRoot. Empty for a chunk that lies past the end of the output, which the leaf alone proves.
    bytes part;
    bytes32[] chunkSiblings;
}

/// @title Challenges and demands: what can be held against a result before it is paid
/// @notice A registry's result is frozen from its first dispute to its `resolve`, which anyone may call, at most `rulingSeconds` or
/// `demandSeconds` past its window, whichever deadline is last. `standing` is what the registry needs to recognise the result: the
/// ABI-encoded arguments of its `freeze`: (Job, Submission) for JobRegistry, (ReplicatedJob, Tally) for ReplicaRegistry.
interface IDisputes {
    /// Somebody says that the leaf of `task` is wrong; the arbiter may rule until `deadline`, block time.
    event Challenged(
        bytes32 indexed caseId,
        bytes32 indexed jobId,
        uint32 batch,
        address challenger,
        uint32 task,
        bytes32 commitment,
        uint40 deadline
    );
    /// The requester wants to see a chunk of the output of `task`; it may be shown until `deadline`, block time.
    event Demanded(
        bytes32 indexed caseId, bytes32 indexed jobId, uint32 batch, uint32 task, uint32 chunk, uint40 deadline
    );
    /// The arbiter has ruled: the challenge was right (`upheld`), or half of its bond went to `defender`.
    event Ruled(bytes32 indexed caseId, bool upheld, address defender);
    /// The chunk that was demanded. `part` is meaningless for a chunk past the end of the output.
    event Answered(bytes32 indexed caseId, address indexed provider, ResultLeaf leaf, bytes part);
    /// All disputes about a result are over; `share` is what each winner gets besides its bond, token wei.
    event Concluded(bytes32 indexed result, Verdict verdict, uint256 share);
    /// `claimant` got `amount` token wei back: its bond, and its share.
    event Claimed(bytes32 indexed caseId, address indexed claimant, uint256 amount);

    /// Not a job registry of this deployment.
    error NotRegistry(address registry);
    /// Only the arbiter rules.
    error NotArbiter(address caller);
    /// Only the requester of the job may demand.
    error NotRequester(address caller, address requester);
    /// This deployment has no arbiter: nothing can be challenged.
    error NoArbiter();
    /// The window is over.
    error TooLate(uint256 deadline);
    /// Cases are open that can still be ruled or answered.
    error TooEarly(uint256 deadline);
    /// The batch has tasks from `firstTask` on, `tasks` of them.
    error NoSuchTask(uint32 task, uint32 firstTask, uint32 tasks);
    /// The caller has brought this very case before.
    error CaseExists(bytes32 caseId);
    /// The case is in `state`, which the call does not allow.
    error WrongCaseState(bytes32 caseId, CaseState state);
    /// `standing` is another result.
    error WrongResult(bytes32 have, bytes32 need);
    /// The leaf is not in the result, or the chunk not in the leaf's output, or it is not what was demanded.
    error WrongAnswer();
    /// The registry has not resolved the batch yet.
    error NotConcluded(bytes32 caseId);

    /// @notice Anyone, in the result's window: says that the leaf of `task` is wrong, with a bond of Settings.challengeBond.
    function challenge(
        address registry,
        bytes calldata standing,
        uint32 task,
        bytes32 commitment,
        Permit calldata permit
    ) external returns (bytes32 caseId);
    /// @notice Arbiter, before the case's deadline: whether the result is wrong. If not, half of the bond goes to `defender`, and
    /// half is burned.
    function rule(bytes32 caseId, bool upheld, address defender) external;
    /// @notice Requester, in the window: demands the 4-KiB chunk `chunk` of the output of `task`, with a bond of Settings.demandBond.
    function demand(address registry, bytes calldata standing, uint32 task, uint32 chunk, Permit calldata permit)
        external
        returns (bytes32 caseId);
    /// @notice Anyone who has it, before the case's deadline: shows the chunk, and gets the bond.
    function answer(bytes32 caseId, Standing calldata standing, Answer calldata given) external;
    /// @notice A registry, for {IJobRegistry-resolve}: what comes of a result, once its window is over and each of its cases is ruled,
    /// answered or past its deadline. If it is wrong, `award` of the slashed stake goes to Disputes, for the winners in equal
    /// shares. `result` is keccak256(abi.encode(Standing)).
    function conclude(bytes32 result, uint256 award) external returns (Verdict verdict);
    /// @notice Anyone, once concluded: gives the claimant of a case its bond back (a won challenge its share as well).
    function claim(bytes32 caseId) external returns (uint256 amount);

    /// @notice A case; all zero if there is none.
    function caseOf(bytes32 caseId) external view returns (Case memory);
    /// @notice All disputes about a result, whose id is keccak256(abi.encode(Standing)).
    function disputeOf(bytes32 result) external view returns (Dispute memory);
    /// @notice Challenges and demands that `account` lost.
    function lostBy(address account) external view returns (uint256);
}
