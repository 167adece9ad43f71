//! Messages of the control protocol, `conun/1`: what peers tell each other beside blobs.
//!
//! Each request has a stream of its own, which ends with it, and is answered on the same stream. A message is a byte for the version and
//! the rest in [postcard]'s encoding:
//!
//! | bytes | |
//! |---|---|
//! | 1 | [`VERSION`] |
//! | at most [`MAX_REQUEST`] or [`MAX_ANSWER`], with the first | a [`Request`], or the [`Answer`] to it |

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use super::gossip::{MAX_HOLDS, MAX_NOTICE, MAX_NOTICES, Notice, SignedNotice};

/// What a connection has to ask for to speak this protocol.
pub const CONTROL_ALPN: &[u8] = b"conun/1";

/// Version of the messages.
pub const VERSION: u8 = 1;

/// Longest request, bytes.
pub const MAX_REQUEST: usize = 256 << 10;

/// Longest answer, bytes.
pub const MAX_ANSWER: usize = 192 << 10;

/// Most hashes asked for at once.
pub const MAX_HASHES: usize = 1024;

/// What a peer asks or tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Which of these blobs, by BLAKE3 hash, are completely here?
    Have(Vec<[u8; 32]>),
    /// How a batch is doing.
    Report(Report),
    /// What is said among members: at most [`MAX_NOTICES`], for as many that are news here.
    Exchange(Vec<SignedNotice>),
}

/// What a provider tells the requester of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The job's id.
    pub job: [u8; 32],
    /// The batch's number.
    pub batch: u32,
    /// Some of its tasks.
    pub tasks: Vec<TaskReport>,
}

/// How a task is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its index in the job.
    pub task: u32,
    /// How it is doing.
    pub state: TaskState,
}

/// How far a task has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskState {
    /// It is being executed, or about to be.
    Started,
    /// It has ended; nothing more is told before its result is believed.
    Ended,
    /// It has ended like this.
    Done {
        /// The program's exit code, if it ended by itself.
        exit_code: Option<u32>,
        /// Fuel burned.
        fuel: u64,
        /// The first of what the program wrote to standard error, at most [`conun_vm::MAX_STDERR_BYTES`].
        stderr: Vec<u8>,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Of each hash, in their order, whether that blob is here.
    Have(Vec<bool>),
    /// The report was taken.
    Taken,
    /// Nothing was done.
    Refused(Refusal),
    /// What is news here.
    Notices(Vec<SignedNotice>),
}

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It speaks another version than this one.
    #[error("only version {0} is spoken here")]
    Version(u8),
    /// A list is longer than allowed.
    #[error("too many at once")]
    TooMany,
    /// Nobody here waits for reports of that.
    #[error("the job is not this peer's")]
    NotYours,
    /// The chain does not say, or not yet, that the reporter holds that batch.
    #[error("its lease is not known here")]
    NotLeased,
    /// It could not be kept.
    #[error("it could not be kept")]
    NotKept,
    /// It takes no part in gossip.
    #[error("it takes no part in gossip")]
    NoGossip,
}

/// A message as it goes over the wire.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(message, vec![VERSION]).expect("a list in memory has no limit")
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMessage {
    Version(Option<u8>),
    Malformed,
}

/// A message from a peer.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NoMessage> {
    match bytes.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            _ => Err(NoMessage::Malformed),
        },
        other => Err(NoMessage::Version(other.map(|(version, _)| *version))),
    }
}

#[cfg(test)]
mod tests {
    use iroh::SecretKey;
    use proptest::prelude::*;

    use super::*;

    fn state() -> impl Strategy<Value = TaskState> {
        let done = (any::<Option<u32>>(), any::<u64>(), any::<Vec<u8>>());
        prop_oneof![
            Just(TaskState::Started),
            Just(TaskState::Ended),
            done.prop_map(|(exit_code, fuel, stderr)| TaskState::Done { exit_code, fuel, stderr }),
        ]
    }

    fn request() -> impl Strategy<Value = Request> {
        let task = (any::<u32>(), state()).prop_map(|(task, state)| TaskReport { task, state });
        let report = (any::<[u8; 32]>(), any::<u32>(), proptest::collection::vec(task, 0..8));
        let notice = any::<Vec<u8>>().prop_map(|body| {
            let signature = SecretKey::from_bytes(&[7; 32]).sign(&body);
            SignedNotice { body, signature }
        });
        prop_oneof![
            any::<Vec<[u8; 32]>>().prop_map(Request::Have),
            report.prop_map(|(job, batch, tasks)| Request::Report(Report { job, batch, tasks })),
            proptest::collection::vec(notice, 0..4).prop_map(Request::Exchange),
        ]
    }

    proptest! {
        #[test]
        fn requests_come_back_as_they_were_and_cut_ones_do_not(request in request(), cut in any::<proptest::sample::Index>()) {
            let bytes = encode(&request);
            prop_assert_eq!(decode(&bytes), Ok(request));
            let cut = cut.index(bytes.len());
            prop_assert!(decode::<Request>(&bytes[..cut]).is_err());
            prop_assert_eq!(decode::<Request>(&[&bytes[..], &[0]].concat()), Err(NoMessage::Malformed));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in any::<Vec<u8>>()) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Answer>(&[&[VERSION], &bytes[..]].concat());
        }
    }

    #[test]
    fn the_longest_answer_fits() {
        assert!(encode(&Answer::Have(vec![true; MAX_HASHES])).len() <= MAX_ANSWER);
        assert!(encode(&Request::Have(vec![[7; 32]; MAX_HASHES])).len() <= MAX_REQUEST);
        let notice = SignedNotice { body: vec![7; MAX_NOTICE], signature: SecretKey::from_bytes(&[7; 32]).sign(b"") };
        assert!(encode(&Answer::Notices(vec![notice.clone(); MAX_NOTICES])).len() <= MAX_ANSWER);
        assert!(encode(&Request::Exchange(vec![notice; MAX_NOTICES])).len() <= MAX_REQUEST);
    }
}
