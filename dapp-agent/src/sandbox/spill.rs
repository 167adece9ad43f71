//! Long inputs, outside of a worker's own memory.
//!
//! On Linux a worker that executes has a file in memory (memfd) that nobody else has and that is never mapped. An input longer than
//! [`LONG`] goes from the pipe into it and is read from there. Its pages count towards the worker's control group, not towards
//! its resident memory. On other systems the input stays in the worker's own memory.

use std::io::{self, BufRead};

/// Longest input that stays in the worker's own memory, bytes.
pub(super) const LONG: u64 = 1 << 20;

pub(super) use system::{Spill, Spilled};

#[cfg(target_os = "linux")]
mod system {
    use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

    use conun_vm::Source;
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::{BufRead, io};

    /// Bytes read at once where a program reads few: the page that holds them. Programs in C read 1 KiB at a time.
    const WINDOW: usize = 4 << 10;

    /// The file, empty but while it holds an input.
    #[derive(Debug)]
    pub(in super::super) struct Spill(Arc<File>);

    impl Spill {
        /// Has to be had before the process gives up its rights.
        pub(in super::super) fn new() -> io::Result<Self> {
            let create = |flags| memfd_create("conun-input", MemfdFlags::CLOEXEC | flags);
            // A kernel before 6.3 does not know that a file is never a program.
            let file = create(MemfdFlags::NOEXEC_SEAL).or_else(|_| create(MemfdFlags::empty()))?;
            Ok(Self(Arc::new(file.into())))
        }

        /// Takes the next `length` bytes of a pipe.
        ///
        /// # Errors
        /// If the pipe ends before, or there is no room.
        pub(in super::super) fn take(&self, pipe: &mut impl BufRead, length: u64) -> io::Result<Spilled> {
            let spilled = Spilled { file: self.0.clone(), length, window: Vec::new(), begin: 0 };
            let mut at = 0;
            while at < length {
                let bytes = pipe.fill_buf()?;
                let bytes = &bytes[..bytes.len().min(usize::try_from(length - at).unwrap_or(usize::MAX))];
                if bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.0.write_all_at(bytes, at)?;
                let taken = bytes.len();
                pipe.consume(taken);
                at += taken as u64;
            }
            Ok(spilled)
        }
    }

    /// An input in the file. Dropping it gives the memory back.
    #[derive(Debug)]
    pub(in super::super) struct Spilled {
        file: Arc<File>,
        length: u64,
        /// What was read last of what is read in small pieces, and where it begins.
        window: Vec<u8>,
        begin: u64,
    }

    impl Source for Spilled {
        fn length(&self) -> u64 {
            self.length
        }

        fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
            let within = |from: u64| usize::try_from(offset.checked_sub(from)?).ok();
            let held = within(self.begin).and_then(|at| self.window.get(at..)?.get(..into.len()));
            if let Some(held) = held {
                into.copy_from_slice(held);
                return Ok(());
            }
            let page = offset - offset % WINDOW as u64;
            let at = (offset - page) as usize;
            if at + into.len() > WINDOW {
                return self.file.read_exact_at(into, offset);
            }
            let length = WINDOW.min(usize::try_from(self.length - page).unwrap_or(WINDOW));
            self.window.resize(length, 0);
            self.begin = page;
            self.file.read_exact_at(&mut self.window, page)?;
            into.copy_from_slice(self.window.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    impl Drop for Spilled {
        fn drop(&mut self) {
            // What stays if this fails is overwritten by the next one.
            let _ = self.file.set_len(0);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{BufRead, io};

    /// There is none.
    #[derive(Debug)]
    pub(in super::super) struct Spill;

    pub(in super::super) type Spilled = bytes::Bytes;

    impl Spill {
        pub(in super::super) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Takes the next `length` bytes of a pipe.
        ///
        /// # Errors
        /// If the pipe ends before.
        pub(in super::super) fn take(&self, pipe: &mut impl BufRead, length: u64) -> io::Result<Spilled> {
            let mut bytes = Vec::new();
            let read = io::Read::read_to_end(&mut io::Read::take(pipe, length), &mut bytes)?;
            if read as u64 == length { Ok(bytes.into()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use conun_vm::Source;
    use proptest::prelude::*;

    use super::Spill;

    proptest! {
        #[test]
        fn any_piece_is_read_as_it_was_written(length in 1_usize..20_000, pieces: Vec<(u16, u16)>, beyond in 0_u8..2) {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            // What follows in the pipe stays there.
            let pipe = [&bytes[..], b"next"].concat();
            let mut pipe = std::io::BufReader::with_capacity(100, &pipe[..]);
            let spill = Spill::new().unwrap();
            let mut spilled = spill.take(&mut pipe, length as u64).unwrap();
            prop_assert_eq!(std::io::read_to_string(&mut pipe).unwrap(), "next");
            prop_assert_eq!(spilled.length(), length as u64);
            for (from, count) in pieces {
                let from = usize::from(from) % length;
                let mut piece = vec![0; usize::from(count) % (length - from + 1)];
                spilled.read_at(from as u64, &mut piece).unwrap();
                prop_assert_eq!(&piece, &bytes[from..from + piece.len()]);
            }
            // The next one is read, not what is left of this one.
            drop(spilled);
            let other = vec![251; length + usize::from(beyond)];
            let mut spilled = spill.take(&mut &other[..], other.len() as u64).unwrap();
            let mut all = vec![0; other.len()];
            spilled.read_at(0, &mut all).unwrap();
            prop_assert_eq!(all, other);
        }
    }

    #[test]
    fn an_input_that_is_cut_short_is_none() {
        let error = Spill::new().unwrap().take(&mut &b"12"[..], 3).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    }
}
