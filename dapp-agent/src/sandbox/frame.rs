//! The pipe between agent and worker: frames of a length (8 bytes, little-endian) and a body.
//!
//! The worker runs hostile code: whatever it sends is capped and decoded without trust.

use std::io;

use conun_vm::{Execution, MAX_OUTPUT_BYTES, MAX_PROGRAM_BYTES, MAX_STDERR_BYTES, Outcome};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame: the largest program or output, and what goes with it.
pub(super) const MAX_FRAME: u64 = {
    let body = if MAX_OUTPUT_BYTES > MAX_PROGRAM_BYTES as u64 { MAX_OUTPUT_BYTES } else { MAX_PROGRAM_BYTES as u64 };
    body + MAX_STDERR_BYTES as u64 + (1 << 20)
};

fn too_long(length: u64) -> io::Error {
    let reason = format!("a message of {length} bytes, at most {MAX_FRAME} are passed");
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

pub(super) async fn send(pipe: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> io::Result<()> {
    if body.len() as u64 > MAX_FRAME {
        return Err(too_long(body.len() as u64));
    }
    pipe.write_all(&(body.len() as u64).to_le_bytes()).await?;
    pipe.write_all(body).await?;
    pipe.flush().await
}

pub(super) async fn receive(pipe: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = pipe.read_u64_le().await?;
    if length > MAX_FRAME {
        return Err(too_long(length));
    }
    // Grows with what really arrives.
    let mut body = Vec::new();
    let read = pipe.take(length).read_to_end(&mut body).await?;
    if read as u64 == length { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// What the agent asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Load { memory_bytes: u64, output_bytes: u64, args: Vec<String>, wasm: Vec<u8> },
    Execute { fuel_limit: u64, stdin: Vec<u8> },
}

/// What the worker answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Loaded,
    Refused(String),
    Host(String),
    Executed(Execution),
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed frame")
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> io::Result<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| malformed())?;
        let (front, rest) = self.0.split_at_checked(length).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(front)
    }

    fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("`take` gives the length asked for")))
    }

    fn bytes(&mut self) -> io::Result<Vec<u8>> {
        let length = self.u64()?;
        Ok(self.take(length)?.to_vec())
    }

    fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| malformed())
    }

    fn end<T>(self, value: T) -> io::Result<T> {
        if self.0.is_empty() { Ok(value) } else { Err(malformed()) }
    }
}

fn put(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend((bytes.len() as u64).to_le_bytes());
    body.extend(bytes);
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Load { memory_bytes, output_bytes, args, wasm } => {
                body.push(0);
                body.extend(memory_bytes.to_le_bytes());
                body.extend(output_bytes.to_le_bytes());
                body.extend((args.len() as u64).to_le_bytes());
                args.iter().for_each(|arg| put(&mut body, arg.as_bytes()));
                put(&mut body, wasm);
            }
            Self::Execute { fuel_limit, stdin } => {
                body.push(1);
                body.extend(fuel_limit.to_le_bytes());
                put(&mut body, stdin);
            }
        }
        body
    }

    pub(super) fn decode(body: &[u8]) -> io::Result<Self> {
        let mut reader = Reader(body);
        let request = match reader.take(1)? {
            [0] => {
                let (memory_bytes, output_bytes) = (reader.u64()?, reader.u64()?);
                let args = (0..reader.u64()?).map(|_| reader.text()).collect::<Result<_, _>>()?;
                Self::Load { memory_bytes, output_bytes, args, wasm: reader.bytes()? }
            }
            [1] => Self::Execute { fuel_limit: reader.u64()?, stdin: reader.bytes()? },
            _ => return Err(malformed()),
        };
        reader.end(request)
    }
}

impl Reply {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Loaded => body.push(0),
            Self::Refused(reason) => {
                body.push(1);
                put(&mut body, reason.as_bytes());
            }
            Self::Host(reason) => {
                body.push(2);
                put(&mut body, reason.as_bytes());
            }
            Self::Executed(execution) => {
                body.push(3);
                let exit_code = match execution.outcome {
                    Outcome::Ok { exit_code } => u64::from(exit_code),
                    Outcome::Failed => u64::MAX,
                };
                body.extend(exit_code.to_le_bytes());
                body.extend(execution.fuel.to_le_bytes());
                put(&mut body, &execution.output);
                put(&mut body, &execution.stderr);
            }
        }
        body
    }

    pub(super) fn decode(body: &[u8]) -> io::Result<Self> {
        let mut reader = Reader(body);
        let reply = match reader.take(1)? {
            [0] => Self::Loaded,
            [1] => Self::Refused(reader.text()?),
            [2] => Self::Host(reader.text()?),
            [3] => {
                let outcome = match reader.u64()? {
                    u64::MAX => Outcome::Failed,
                    code => Outcome::Ok { exit_code: code.try_into().map_err(|_| malformed())? },
                };
                let fuel = reader.u64()?;
                Self::Executed(Execution { outcome, fuel, output: reader.bytes()?, stderr: reader.bytes()? })
            }
            _ => return Err(malformed()),
        };
        reader.end(reply)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn frames_come_back_as_they_were(wasm: Vec<u8>, args in vec(".*", 0..3), fuel: u64, code: Option<u32>, text: String) {
            let requests = [
                Request::Load { memory_bytes: fuel, output_bytes: 1, args, wasm: wasm.clone() },
                Request::Execute { fuel_limit: fuel, stdin: wasm.clone() },
            ];
            for request in requests {
                prop_assert_eq!(Request::decode(&request.encode()).unwrap(), request);
            }
            let outcome = code.map_or(Outcome::Failed, |exit_code| Outcome::Ok { exit_code });
            let executed = Execution { outcome, fuel, output: wasm.clone(), stderr: wasm };
            for reply in [Reply::Loaded, Reply::Refused(text.clone()), Reply::Host(text), Reply::Executed(executed)] {
                prop_assert_eq!(Reply::decode(&reply.encode()).unwrap(), reply);
            }
        }

        #[test]
        fn nothing_that_a_worker_sends_panics(body: Vec<u8>) {
            let _ = Reply::decode(&body);
            let _ = Request::decode(&body);
        }
    }
}
