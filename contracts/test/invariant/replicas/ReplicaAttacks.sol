// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settings} from "../../../interfaces/IDeployment.sol";
import {IDisputes} from "../../../interfaces/IDisputes.sol";
import {Consent, IEscrow, Mark, Share} from "../../../interfaces/IEscrow.sol";
import {Contact} from "../../../interfaces/IJobRegistry.sol";
import {
    BallotState,
    Commitment,
    IReplicaRegistry,
    Opening,
    ReplicaState,
    ReplicatedJob,
    Reveal,
    Tally,
    Vote
} from "../../../interfaces/IReplicaRegistry.sol";
import {Parts} from "../Books.sol";
import {ReplicaHandler, Spot} from "./ReplicaHandler.sol";
import {Said} from "./ReplicaGhosts.sol";

/// @notice What nobody may, tried between the calls of {ReplicaHandler}.
contract ReplicaAttacks is ReplicaHandler {
    constructor(Parts memory parts, Settings memory settings, address[] memory accounts, uint256 maxJobs)
        ReplicaHandler(parts, settings, accounts, maxJobs)
    {}

    function attack(uint256 seed) external lucky(seed) {
        if (_posted.length == 0) return;
        uint256 kind = _dice(9);
        if (kind == 0) _actAsRequester();
        else if (kind == 1) _useAnotherJob();
        else if (kind == 2) _callInAnyState();
        else if (kind == 3) _revealWhatWasNot();
        else if (kind == 4) _takeTwiceInOneCall();
        else if (kind == 5) _callAsRegistry();
        else if (kind == 6) _postAgain();
        else if (kind == 7) _endAgain();
        else _actAsHolder();
    }

    /// Votes that are not those that were given, and ends that they do not allow.
    function miscount(uint256 seed) external lucky(seed) {
        Spot memory s = _find(BallotState.Revealing);
        if (!s.any) return;
        Said memory said = saidIn(s.id, s.batch);
        if (said.revealed != said.committed) return;
        Tally[] memory right = _tallies(s);
        for (uint256 way = 0; way < 6; ++way) {
            Tally[] memory list = _tallies(s);
            if (!_spoil(list[0], way)) continue;
            bytes memory data = abi.encodeCall(IReplicaRegistry.finalise, (s.job, list));
            _never("wrong votes", _actor(_dice(256)), data, IReplicaRegistry.WrongVotes.selector);
            data = abi.encodeCall(IReplicaRegistry.accept, (s.job, list));
            _never("wrong votes", s.job.job.requester, data, IReplicaRegistry.WrongVotes.selector);
            data = abi.encodeCall(
                IDisputes.challenge, (address(_REPLICAS), abi.encode(s.job, list[0]), 0, bytes32(0), _none())
            );
            _refused("wrong votes", _actor(0), address(_DISPUTES), data, IReplicaRegistry.WrongVotes.selector);
        }
        bytes memory call_ = abi.encodeCall(IReplicaRegistry.accept, (s.job, right));
        bool unanimous = said.agreed == said.committed;
        bytes4 refusal = said.accepted ? IReplicaRegistry.TooEarly.selector : IReplicaRegistry.NotAccepted.selector;
        bool early = block.timestamp < _ballots[s.id][s.batch].time;
        if (!said.accepted || early && !unanimous) {
            _never("accept what is not unanimous", s.job.job.requester, call_, refusal);
        }
        call_ = abi.encodeCall(IReplicaRegistry.finalise, (s.job, right));
        if (said.accepted && early) _never("finalise early", _actor(0), call_, refusal);
    }

    function _spoil(Tally memory tally, uint256 way) private returns (bool) {
        Vote[] memory votes = tally.votes;
        uint256 at = _dice(votes.length);
        if (way == 0) {
            votes[at].root = bytes32(uint256(votes[at].root) ^ 1 << _dice(256));
        } else if (way == 1) {
            votes[at].fuel ^= uint64(1 << _dice(64));
        } else if (way == 2) {
            votes[at].provider = address(uint160(votes[at].provider) ^ 1);
        } else if (way == 3) {
            // As if it had kept silent.
            (votes[at].root, votes[at].fuel) = (0, 0);
        } else if (way == 4) {
            if (votes.length < 2) return false;
            (votes[0], votes[1]) = _dice(2) == 0 ? (votes[1], votes[0]) : (votes[0], votes[0]);
        } else {
            assembly ("memory-safe") {
                mstore(votes, sub(mload(votes), 1))
            }
        }
        return true;
    }

    function _actAsRequester() private {
        ReplicatedJob memory job = _posted[_dice(_posted.length)];
        address who = _other(job.job.requester);
        Tally[] memory tallies = new Tally[](0);
        bytes[4] memory calls = [
            abi.encodeCall(IReplicaRegistry.cancel, (job)),
            abi.encodeCall(IReplicaRegistry.accept, (job, tallies)),
            abi.encodeCall(IReplicaRegistry.revealAndAccept, (job, new Reveal[](0))),
            abi.encodeCall(IReplicaRegistry.setContact, (job, Contact(0, "")))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            _never("act as requester", who, calls[i], IReplicaRegistry.NotRequester.selector);
        }
        if (who != job.job.requester) {
            _never("act as requester", who, _postData(job), IReplicaRegistry.NotRequester.selector);
        }
    }

    /// A job with one field changed was never posted.
    function _useAnotherJob() private {
        Spot memory s = _spot(_dice(_posted.length));
        s.batch = uint32(_dice(_batchCount(s.job)));
        Tally[] memory tallies = _tallies(s);
        bytes memory words = abi.encode(s.job);
        // The last byte of a word: of every field, and no other job has such fields.
        uint256 field = 1 + _dice(18);
        words[32 * field + 31] ^= 0x80;
        if (field == 1) words[32 * field + 30] ^= 0x80;
        ReplicatedJob memory job = abi.decode(words, (ReplicatedJob));
        Opening memory opening;
        bytes[10] memory calls = [
            abi.encodeCall(IReplicaRegistry.cancel, (job)),
            abi.encodeCall(IReplicaRegistry.lease, (job, _one(s.batch))),
            abi.encodeCall(IReplicaRegistry.backUp, (job, s.batch, _actor(0))),
            abi.encodeCall(IReplicaRegistry.release, (job, _one(s.batch))),
            abi.encodeCall(IReplicaRegistry.expire, (job, s.batch, _actor(0))),
            abi.encodeCall(IReplicaRegistry.commit, (job, new Commitment[](1))),
            abi.encodeCall(IReplicaRegistry.reveal, (job, new Reveal[](1))),
            abi.encodeCall(IReplicaRegistry.revealOpened, (job, new Reveal[](1)[0], opening)),
            abi.encodeCall(IReplicaRegistry.finalise, (job, tallies)),
            abi.encodeCall(IReplicaRegistry.resolve, (job, tallies[0]))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            _never("another job", s.job.job.requester, calls[i], IReplicaRegistry.UnknownJob.selector);
        }
    }

    /// Each call on a batch in a state in which it makes no sense.
    function _callInAnyState() private {
        Spot memory s = _find(BallotState(_dice(8)));
        if (!s.any) return;
        BallotState state = _ballots[s.id][s.batch].state;
        address from = _actor(_dice(256));
        Tally[] memory tallies = _tallies(s);
        bytes4 refusal = IReplicaRegistry.WrongState.selector;
        if (state != BallotState.Drawing && !isShort(s.id, s.batch)) {
            _never("draw in another state", from, abi.encodeCall(IReplicaRegistry.draw, (s.job, s.batch)), refusal);
        }
        if (state != BallotState.Frozen) {
            _never(
                "resolve in another state", from, abi.encodeCall(IReplicaRegistry.resolve, (s.job, tallies[0])), refusal
            );
        }
        if (state != BallotState.Revealing && state != BallotState.Committing) {
            _never(
                "finalise in another state", from, abi.encodeCall(IReplicaRegistry.finalise, (s.job, tallies)), refusal
            );
        }
        if (state != BallotState.Committing) {
            // Nobody holds any of it.
            bytes memory data = abi.encodeCall(IReplicaRegistry.expire, (s.job, s.batch, address(this)));
            _never("expire in another state", from, data, IReplicaRegistry.WrongReplicaState.selector);
            data = abi.encodeCall(IReplicaRegistry.backUp, (s.job, s.batch, from));
            _never("back up in another state", from, data, refusal);
        }
        bytes memory beyond = abi.encodeCall(IReplicaRegistry.lease, (s.job, _one(_batchCount(s.job))));
        _never("no such batch", from, beyond, IReplicaRegistry.NoSuchBatch.selector);
    }

    /// A commitment opens as itself only, and only for who made it.
    function _revealWhatWasNot() private {
        Spot memory s = _find(BallotState.Revealing);
        if (!s.any || block.timestamp > _ballots[s.id][s.batch].time) return;
        address maker = _actorIn(s, ReplicaState.Committed);
        if (maker == address(0)) return;
        for (uint256 way = 0; way < 5; ++way) {
            Reveal[] memory given = new Reveal[](1);
            given[0] = _plans[s.id][s.batch][maker];
            (given[0].batch, given[0].provider) = (s.batch, maker);
            if (way == 0) given[0].root = keccak256("another root");
            else if (way == 1) given[0].fuel = given[0].fuel == 0 ? 1 : given[0].fuel - 1;
            else if (way == 2) given[0].salt = ~given[0].salt;
            else if (way == 3) given[0].bound = ~given[0].bound;
            else given[0].provider = _other(maker);
            // What a copier made up is what it copied, under the other's name.
            if (_commitmentOf(s.id, given[0]) == _replicas[s.id][s.batch][given[0].provider].hash) continue;
            bytes memory data = abi.encodeCall(IReplicaRegistry.reveal, (s.job, given));
            // Of some, root or fuel are refused before.
            _never("reveal what was not", maker, data, 0);
        }
    }

    /// A batch twice in one call, for each call that takes several.
    function _takeTwiceInOneCall() private {
        Spot memory s = _find(BallotState(_dice(5)));
        if (!s.any) return;
        uint32[] memory twice = new uint32[](2);
        twice[0] = twice[1] = s.batch;
        for (uint256 a = 0; a < actors.length; ++a) {
            Commitment[] memory commitments = new Commitment[](2);
            commitments[0] = commitments[1] = Commitment(s.batch, keccak256("twice"));
            _never("twice in a call", actors[a], abi.encodeCall(IReplicaRegistry.lease, (s.job, twice)), 0);
            _never("twice in a call", actors[a], abi.encodeCall(IReplicaRegistry.release, (s.job, twice)), 0);
            _never("twice in a call", actors[a], abi.encodeCall(IReplicaRegistry.commit, (s.job, commitments)), 0);
            Reveal[] memory reveals = new Reveal[](2);
            reveals[0] = reveals[1] = _plans[s.id][s.batch][actors[a]];
            _never("twice in a call", actors[a], abi.encodeCall(IReplicaRegistry.reveal, (s.job, reveals)), 0);
        }
        Said memory said = saidIn(s.id, s.batch);
        // A batch that goes on to another round, or opens again, is not ended by the first of the two.
        if (!said.accepted) return;
        Tally[] memory tallies = new Tally[](2);
        tallies[0] = tallies[1] = tallyOf(s.id, s.batch);
        _never("twice in a call", _actor(0), abi.encodeCall(IReplicaRegistry.finalise, (s.job, tallies)), 0);
        bytes memory data = abi.encodeCall(IReplicaRegistry.accept, (s.job, tallies));
        _never("twice in a call", s.job.job.requester, data, 0);
    }

    function _callAsRegistry() private {
        (address who, address victim) = (_actor(_dice(256)), _actor(_dice(256)));
        uint256 amount = _dice(1e20);
        Share[] memory shares = new Share[](1);
        shares[0] = Share(who, amount, 0, 0, Mark.Checked);
        bytes[7] memory calls = [
            abi.encodeCall(IEscrow.settle, (victim, 0, 0, 0, Consent.None, shares)),
            abi.encodeCall(IEscrow.holdVoter, (victim, amount)),
            abi.encodeCall(IEscrow.free, (victim, amount)),
            abi.encodeCall(IEscrow.expire, (victim, amount, amount)),
            abi.encodeCall(IEscrow.refund, (victim, amount)),
            abi.encodeCall(IEscrow.collect, (victim, amount, _none())),
            abi.encodeCall(IEscrow.give, (who, amount, 0))
        ];
        for (uint256 i = 0; i < calls.length; ++i) {
            _refused("call as registry", who, address(_ESCROW), calls[i], IEscrow.NotRegistry.selector);
        }
        bytes memory data = abi.encodeCall(IDisputes.conclude, (bytes32(0), 0));
        _refused("call as registry", who, address(_DISPUTES), data, IDisputes.NotRegistry.selector);
        Spot memory s = _spot(_dice(_posted.length));
        data = abi.encodeCall(IReplicaRegistry.freeze, (s.job, tallyOf(s.id, 0)));
        _never("call as registry", who, data, IReplicaRegistry.NotDisputes.selector);
        // The Escrow is no registry to freeze a result of.
        data = abi.encodeCall(IDisputes.challenge, (address(_ESCROW), abi.encode(s.job), 0, bytes32(0), _none()));
        _refused("call as registry", who, address(_DISPUTES), data, IDisputes.NotRegistry.selector);
    }

    function _postAgain() private {
        ReplicatedJob memory job = _posted[_dice(_posted.length)];
        // Its ramp has begun: the rules refuse it before, unless no lot decides who leases.
        bytes4 refusal = job.assurance.limit == 1 ? IReplicaRegistry.JobExists.selector : bytes4(0);
        _never("post again", job.job.requester, _postData(job), refusal);
    }

    function _endAgain() private {
        Spot memory s = _find(BallotState(uint256(BallotState.Settled) + _dice(3)));
        if (!s.any) return;
        bytes4 refusal = IReplicaRegistry.WrongState.selector;
        Tally[] memory tallies = _tallies(s);
        _never("end again", _actor(0), abi.encodeCall(IReplicaRegistry.finalise, (s.job, tallies)), refusal);
        _never("end again", s.job.job.requester, abi.encodeCall(IReplicaRegistry.accept, (s.job, tallies)), refusal);
        bytes memory standing = abi.encode(s.job, tallies[0]);
        bytes memory data = abi.encodeCall(IDisputes.demand, (address(_REPLICAS), standing, 0, 0, _none()));
        _refused("end again", s.job.job.requester, address(_DISPUTES), data, refusal);
    }

    /// Nobody commits to or gives back what another leased.
    function _actAsHolder() private {
        Spot memory s = _findLeased();
        if (!s.any) return;
        for (uint256 a = 0; a < actors.length; ++a) {
            if (_replicas[s.id][s.batch][actors[a]].state == ReplicaState.Leased) continue;
            Commitment[] memory list = new Commitment[](1);
            list[0] = Commitment(s.batch, keccak256("anything"));
            bytes4 refusal = IReplicaRegistry.WrongReplicaState.selector;
            _never("act as holder", actors[a], abi.encodeCall(IReplicaRegistry.commit, (s.job, list)), refusal);
            bytes memory data = abi.encodeCall(IReplicaRegistry.release, (s.job, _one(s.batch)));
            _never("act as holder", actors[a], data, refusal);
        }
    }

    function _never(string memory name, address from, bytes memory data, bytes4 refusal) private {
        _refused(name, from, address(_REPLICAS), data, refusal);
    }
}
