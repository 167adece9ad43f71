//! The pipe between agent and worker: frames of a length (8 bytes, little-endian) and a body.
//!
//! A body is one byte that tells its kind, fields of fixed size, and one piece of any length at the end. The worker runs hostile
//! code: whatever it sends is capped and decoded without trust. A long output comes in pieces before the answer that it belongs to,
//! while the program runs; whether it counts, that answer says.

use std::io;

use bytes::{Buf, Bytes};
use conun_vm::{Execution, MAX_OUTPUT_BYTES, MAX_STDERR_BYTES, Outcome};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    confine::{Budget, Confinement, Layer, Role},
    spill::{LONG, Spill, Spilled},
};

/// Room for the fields of any frame.
const FIELDS: u64 = 4096;

/// Longest piece of an output, bytes.
pub(super) const PIECE: usize = 1 << 20;

/// Longest answer of a worker that executes: the last piece of an output and a log.
pub(super) const MAX_RESULT: u64 = PIECE as u64 + MAX_STDERR_BYTES as u64 + FIELDS;

/// Longest native code of a program, and so the longest answer of a worker that compiles.
pub(super) const MAX_ARTIFACT: u64 = 512 << 20;

/// Longest frame that a worker reads: native code, a program, or an input.
pub(super) const MAX_REQUEST: u64 = MAX_ARTIFACT + FIELDS;

fn too_long(length: u64, most: u64) -> io::Error {
    let reason = format!("a message of {length} bytes, at most {most} are passed");
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed frame")
}

/// What is written before the last piece: the frame's length and its fields.
fn head(kind: u8, fields: &[&[u8]], tail: usize) -> Vec<u8> {
    let length: usize = 1 + fields.iter().map(|field| field.len()).sum::<usize>() + tail;
    let mut head = (length as u64).to_le_bytes().to_vec();
    head.push(kind);
    fields.iter().for_each(|field| head.extend(*field));
    head
}

/// A message as it is written: one piece, then another.
type Parts<'a> = (Vec<u8>, &'a [u8]);

pub(super) async fn send(pipe: &mut (impl AsyncWrite + Unpin), (head, tail): Parts<'_>) -> io::Result<()> {
    pipe.write_all(&head).await?;
    pipe.write_all(tail).await
}

/// Reads a frame of at most `most` bytes.
pub(super) async fn receive(pipe: &mut (impl AsyncRead + Unpin), most: u64) -> io::Result<Bytes> {
    let length = pipe.read_u64_le().await?;
    if length > most {
        return Err(too_long(length, most));
    }
    // Grows with what really arrives.
    let mut body = Vec::new();
    let read = pipe.take(length).read_to_end(&mut body).await?;
    if read as u64 == length { Ok(body.into()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub(super) fn write(pipe: &mut impl io::Write, (head, tail): Parts<'_>) -> io::Result<()> {
    pipe.write_all(&head)?;
    pipe.write_all(tail)
}

/// Reads the answer to one request, each of its frames of at most `most` bytes, and puts a long output together.
pub(super) async fn answer(pipe: &mut (impl AsyncRead + Unpin), most: u64) -> io::Result<Reply> {
    let mut output: Vec<u8> = Vec::new();
    loop {
        let (piece, end) = match Reply::decode(receive(pipe, most).await?)? {
            Reply::Piece(piece) => (piece.into(), None),
            Reply::Executed(mut execution) => (std::mem::take(&mut execution.output), Some(execution)),
            reply => return Ok(reply),
        };
        let length = (output.len() + piece.len()) as u64;
        if length > MAX_OUTPUT_BYTES {
            return Err(too_long(length, MAX_OUTPUT_BYTES));
        }
        if output.is_empty() {
            output = piece;
        } else {
            output.extend_from_slice(&piece);
        }
        if let Some(execution) = end {
            // What a failed task has written is no part of its result.
            let output = if execution.outcome == Outcome::Failed { Vec::new() } else { output };
            return Ok(Reply::Executed(Execution { output, ..execution }));
        }
    }
}

/// What a worker reads.
#[derive(Debug)]
pub(super) enum Arrived {
    Request(Request),
    /// [`Request::Execute`] with a long input.
    Long {
        fuel_limit: u64,
        input: Spilled,
    },
}

/// Reads a request; `None` where the pipe ends between two.
pub(super) fn read(pipe: &mut impl io::BufRead, spill: &Spill) -> io::Result<Option<Arrived>> {
    if pipe.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let length = number(pipe)?;
    if length > MAX_REQUEST {
        return Err(too_long(length, MAX_REQUEST));
    }
    if length > LONG && pipe.fill_buf()?.first() == Some(&EXECUTE) {
        pipe.consume(1);
        let fuel_limit = number(pipe)?;
        let input = spill.take(pipe, length - 1 - size_of::<u64>() as u64)?;
        return Ok(Some(Arrived::Long { fuel_limit, input }));
    }
    let mut body = Vec::new();
    let read = io::Read::read_to_end(&mut io::Read::take(pipe, length), &mut body)?;
    if read as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Request::decode(body.into()).map(|request| Some(Arrived::Request(request)))
}

fn number(pipe: &mut impl io::Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    pipe.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Kind of the request whose last piece may be long and is not needed whole.
const EXECUTE: u8 = 4;

/// A piece of an output.
pub(super) fn piece(bytes: &[u8]) -> Parts<'_> {
    (head(7, &[], bytes.len()), bytes)
}

/// What the agent asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The first: what the worker is for, and what it may take.
    Begin(Budget),
    /// Of a worker that compiles: check and prepare a program.
    Prepare { memory_bytes: u64, wasm: Bytes },
    /// Then: make native code of it.
    Compile,
    /// Of a worker that executes: take native code.
    Load { output_bytes: u64, artifact: Bytes },
    /// Then, as often as there are tasks.
    Execute { fuel_limit: u64, input: Bytes },
}

/// What the worker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Confined(Confinement),
    Prepared {
        hash: [u8; 32],
        root: [u8; 32],
    },
    Compiled(Bytes),
    Loaded,
    Executed(Execution),
    /// Of the output of the task that is executed, what follows the pieces before.
    Piece(Bytes),
    /// The program is at fault.
    Refused(String),
    /// This machine is.
    Host(String),
}

/// Takes fields from the front of a body; what is left is the last piece.
struct Reader(Bytes);

impl Reader {
    fn u8(&mut self) -> io::Result<u8> {
        self.0.try_get_u8().map_err(|_| malformed())
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.0.try_get_u64_le().map_err(|_| malformed())
    }

    fn take(&mut self, length: u64) -> io::Result<Bytes> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len()).ok_or_else(malformed)?;
        Ok(self.0.split_to(length))
    }

    fn hash(&mut self) -> io::Result<[u8; 32]> {
        self.take(32)?.as_ref().try_into().map_err(|_| malformed())
    }

    fn text(self) -> io::Result<String> {
        String::from_utf8(self.0.into()).map_err(|_| malformed())
    }

    fn end<T>(self, value: T) -> io::Result<T> {
        if self.0.is_empty() { Ok(value) } else { Err(malformed()) }
    }
}

impl Request {
    pub(super) fn encode(&self) -> Parts<'_> {
        let (kind, fields, tail): (_, [u64; 2], &[u8]) = match self {
            Self::Begin(budget) => {
                let role = match budget.role {
                    Role::Compile => 0,
                    Role::Execute => 1,
                };
                let numbers = [budget.data_bytes, budget.file_bytes, budget.cpu_seconds].map(u64::to_le_bytes);
                return (head(0, &[&[role], numbers.as_flattened()], 0), &[]);
            }
            Self::Compile => return (head(2, &[], 0), &[]),
            Self::Prepare { memory_bytes, wasm } => (1, [*memory_bytes, 0], wasm),
            Self::Load { output_bytes, artifact } => (3, [*output_bytes, 0], artifact),
            Self::Execute { fuel_limit, input } => (EXECUTE, [*fuel_limit, 0], input),
        };
        (head(kind, &[&fields[0].to_le_bytes()], tail.len()), tail)
    }

    pub(super) fn decode(body: Bytes) -> io::Result<Self> {
        let mut reader = Reader(body);
        match reader.u8()? {
            0 => {
                let role = match reader.u8()? {
                    0 => Role::Compile,
                    1 => Role::Execute,
                    _ => return Err(malformed()),
                };
                let [data_bytes, file_bytes, cpu_seconds] = [reader.u64()?, reader.u64()?, reader.u64()?];
                let budget = Budget { role, data_bytes, file_bytes, cpu_seconds };
                reader.end(Self::Begin(budget))
            }
            1 => Ok(Self::Prepare { memory_bytes: reader.u64()?, wasm: reader.0 }),
            2 => reader.end(Self::Compile),
            3 => Ok(Self::Load { output_bytes: reader.u64()?, artifact: reader.0 }),
            EXECUTE => Ok(Self::Execute { fuel_limit: reader.u64()?, input: reader.0 }),
            _ => Err(malformed()),
        }
    }
}

impl Reply {
    pub(super) fn encode(&self) -> Parts<'_> {
        match self {
            Self::Confined(confinement) => {
                let mut lines = Vec::new();
                for layer in &confinement.layers {
                    lines.extend(
                        [layer.name.as_bytes(), b"\t", layer.missing.as_deref().unwrap_or("").as_bytes(), b"\n"]
                            .concat(),
                    );
                }
                (head(0, &[&lines], 0), &[])
            }
            Self::Prepared { hash, root } => (head(1, &[hash, root], 0), &[]),
            Self::Compiled(artifact) => (head(2, &[], artifact.len()), artifact),
            Self::Loaded => (head(3, &[], 0), &[]),
            Self::Executed(execution) => {
                let exit_code = match execution.outcome {
                    Outcome::Ok { exit_code } => u64::from(exit_code),
                    Outcome::Failed => u64::MAX,
                };
                let numbers = [exit_code, execution.fuel, execution.stderr.len() as u64].map(u64::to_le_bytes);
                let [exit_code, fuel, length] = &numbers;
                (head(4, &[exit_code, fuel, length, &execution.stderr], execution.output.len()), &execution.output)
            }
            Self::Piece(bytes) => piece(bytes),
            Self::Refused(reason) => (head(5, &[], reason.len()), reason.as_bytes()),
            Self::Host(reason) => (head(6, &[], reason.len()), reason.as_bytes()),
        }
    }

    pub(super) fn decode(body: Bytes) -> io::Result<Self> {
        let mut reader = Reader(body);
        match reader.u8()? {
            0 => {
                let layer = |line: &str| {
                    let (name, missing) = line.split_once('\t')?;
                    let missing = (!missing.is_empty()).then(|| missing.to_owned());
                    Some(Layer { name: name.to_owned(), missing })
                };
                let layers = reader.text()?.lines().map(layer).collect::<Option<_>>().ok_or_else(malformed)?;
                Ok(Self::Confined(Confinement { layers }))
            }
            1 => {
                let (hash, root) = (reader.hash()?, reader.hash()?);
                reader.end(Self::Prepared { hash, root })
            }
            2 => Ok(Self::Compiled(reader.0)),
            3 => reader.end(Self::Loaded),
            4 => {
                let outcome = match reader.u64()? {
                    u64::MAX => Outcome::Failed,
                    code => Outcome::Ok { exit_code: code.try_into().map_err(|_| malformed())? },
                };
                let (fuel, length) = (reader.u64()?, reader.u64()?);
                let stderr = reader.take(length)?.into();
                Ok(Self::Executed(Execution { outcome, fuel, stderr, output: reader.0.into() }))
            }
            5 => Ok(Self::Refused(reader.text()?)),
            6 => Ok(Self::Host(reader.text()?)),
            // Empty ones could go on for ever.
            7 if !reader.0.is_empty() => Ok(Self::Piece(reader.0)),
            _ => Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use conun_vm::Source;
    use proptest::prelude::*;

    use super::*;

    fn body((head, tail): Parts<'_>) -> Bytes {
        let whole = [&head, tail].concat();
        let (length, body) = whole.split_at(8);
        assert_eq!(u64::from_le_bytes(length.try_into().unwrap()), body.len() as u64);
        Bytes::copy_from_slice(body)
    }

    proptest! {
        #[test]
        fn frames_come_back_as_they_were(bytes: Vec<u8>, number: u64, code: Option<u32>, text: String, hash: [u8; 32]) {
            let piece = Bytes::from(bytes.clone());
            let budget = |role| Budget { role, data_bytes: number, file_bytes: number / 2, cpu_seconds: !number };
            let requests = [
                Request::Begin(budget(Role::Compile)),
                Request::Begin(budget(Role::Execute)),
                Request::Prepare { memory_bytes: number, wasm: piece.clone() },
                Request::Compile,
                Request::Load { output_bytes: number, artifact: piece.clone() },
                Request::Execute { fuel_limit: number, input: piece.clone() },
            ];
            for request in requests {
                prop_assert_eq!(Request::decode(body(request.encode())).unwrap(), request);
            }
            let outcome = code.map_or(Outcome::Failed, |exit_code| Outcome::Ok { exit_code });
            let executed = Execution { outcome, fuel: number, output: bytes.clone(), stderr: bytes.clone() };
            let layers = vec![
                Layer { name: "one".to_owned(), missing: None },
                Layer { name: "two".to_owned(), missing: Some("why".to_owned()) },
            ];
            let replies = [
                Reply::Confined(Confinement { layers }),
                Reply::Prepared { hash, root: hash },
                Reply::Compiled(piece.clone()),
                Reply::Piece(Bytes::from([&bytes[..], b"x"].concat())),
                Reply::Loaded,
                Reply::Executed(executed),
                Reply::Refused(text.clone()),
                Reply::Host(text),
            ];
            for reply in replies {
                prop_assert_eq!(Reply::decode(body(reply.encode())).unwrap(), reply);
            }
        }

        #[test]
        fn nothing_that_a_worker_sends_panics(kind in 0_u8..9, tail: Vec<u8>) {
            let body = Bytes::from([&[kind][..], &tail].concat());
            let _ = Reply::decode(body.clone());
            let _ = Request::decode(body);
        }
    }

    fn whole(reply: &Reply) -> Vec<u8> {
        let (head, tail) = reply.encode();
        [&head, tail].concat()
    }

    #[tokio::test]
    async fn pieces_are_put_together_and_count_only_if_the_task_did_not_fail() {
        let piece = |bytes: &'static [u8]| whole(&Reply::Piece(bytes.into()));
        for (outcome, expected) in [(Outcome::Ok { exit_code: 3 }, &b"one, two, three"[..]), (Outcome::Failed, b"")] {
            let done = Execution { outcome, output: b"three".to_vec(), fuel: 7, stderr: b"log".to_vec() };
            let end = whole(&Reply::Executed(done.clone()));
            let frames = [piece(b"one, "), piece(b"two, "), end, piece(b"of the next")].concat();
            let Reply::Executed(answer) = answer(&mut &frames[..], MAX_RESULT).await.unwrap() else {
                panic!("its end")
            };
            assert_eq!(answer, Execution { output: expected.to_vec(), ..done });
        }
    }

    #[tokio::test]
    async fn pieces_without_an_end_are_not_read() {
        let most = usize::try_from(MAX_OUTPUT_BYTES).unwrap() / PIECE;
        let piece = whole(&Reply::Piece(vec![0; PIECE].into()));
        let error = answer(&mut &piece.repeat(most + 1)[..], MAX_RESULT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // As many as there may be: then the end is missed.
        let error = answer(&mut &piece.repeat(most)[..], MAX_RESULT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn only_long_inputs_of_tasks_are_not_in_memory() {
        let spill = Spill::new().unwrap();
        for (length, long) in [(10, false), (usize::try_from(LONG).unwrap(), true)] {
            let input = Bytes::from(vec![7; length]);
            let execute = Request::Execute { fuel_limit: 5, input: input.clone() };
            let load = Request::Load { output_bytes: 5, artifact: input.clone() };
            for (request, long) in [(execute, long), (load, false)] {
                let (head, tail) = request.encode();
                let frame = [&head, tail].concat();
                match read(&mut &frame[..], &spill).unwrap().unwrap() {
                    Arrived::Request(arrived) => assert!(!long && arrived == request),
                    Arrived::Long { fuel_limit, mut input } => {
                        let mut bytes = vec![0; length];
                        input.read_at(0, &mut bytes).unwrap();
                        assert!(long && fuel_limit == 5 && input.length() == length as u64 && bytes == tail);
                    }
                }
                // Cut short.
                assert!(read(&mut &frame[..frame.len() - 1], &spill).is_err());
            }
        }
    }
}
