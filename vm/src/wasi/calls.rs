//! The calls themselves. Each begins by paying; each answers an error number.

use wasmer::{FunctionEnvMut, Memory, MemoryView, StoreMut, Value};

use super::{
    errno::{BADF, FAULT, INVAL, NOSYS, SPIPE, SUCCESS},
    host::{CLOCK_START_NANOS, CLOCK_STEP_NANOS, Host, Stop},
};
use crate::{
    fuel::{BUFFER, BYTES_PER_FUEL, HOST_CALL},
    program::fuel_left,
};

type Env<'a> = FunctionEnvMut<'a, Host>;
type Answer = Result<i32, Stop>;

/// Most buffers of one read or write.
const MAX_BUFFERS: u32 = 1024;

/// Bytes copied at once between the program's memory and the host.
const CHUNK: usize = 4096;

const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const RIGHT_FD_READ: u64 = 1 << 1;
const RIGHT_FD_WRITE: u64 = 1 << 6;

/// The program's memory, with every access checked.
struct Guest<'a>(MemoryView<'a>);

/// The buffers of a scattered read or write.
#[derive(Default)]
struct Buffers {
    /// Address and length of each.
    list: Vec<(u32, u32)>,
    /// Length of all.
    total: u64,
}

/// A pointer into nowhere.
struct Fault;

type Access<T> = Result<T, Fault>;

impl Guest<'_> {
    fn read(&self, at: u64, bytes: &mut [u8]) -> Access<()> {
        self.0.read(at, bytes).map_err(|_| Fault)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Access<()> {
        self.0.write(at, bytes).map_err(|_| Fault)
    }

    fn write_u32(&self, at: u32, value: u32) -> Access<()> {
        self.write(at.into(), &value.to_le_bytes())
    }

    /// The buffers of a scattered read or write, all inside the memory.
    fn buffers(&self, at: u32, count: u32) -> Access<Buffers> {
        let mut list = vec![0; count as usize * 8];
        self.read(at.into(), &mut list)?;
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes of eight"));
        let list: Vec<_> = list.chunks_exact(8).map(|b| (word(&b[..4]), word(&b[4..]))).collect();
        let size = self.0.data_size();
        if list.iter().any(|&(at, len)| u64::from(at) + u64::from(len) > size) {
            return Err(Fault);
        }
        let total = list.iter().map(|&(_, len)| u64::from(len)).sum();
        Ok(Buffers { list, total })
    }
}

/// Takes fuel as compiled code does: below zero means exhausted.
fn pay(env: &mut Env<'_>, amount: u64) -> Result<(), Stop> {
    let Some((_, fuel)) = env.data().attached() else {
        return Err(Stop::Host("a program called the host before it was started".to_owned()));
    };
    let left = fuel_left(&fuel, env).map_err(|e| Stop::Host(e.to_string()))?;
    let left = left.saturating_sub_unsigned(amount);
    fuel.set(env, Value::I64(left)).map_err(|e| Stop::Host(e.to_string()))?;
    if left < 0 { Err(Stop::OutOfFuel) } else { Ok(()) }
}

fn pay_bytes(env: &mut Env<'_>, bytes: u64) -> Result<(), Stop> {
    pay(env, bytes / BYTES_PER_FUEL)
}

/// Runs `body` with the state and the memory; a bad pointer becomes `EFAULT`.
fn with(env: &mut Env<'_>, body: impl FnOnce(&mut Host, Guest<'_>) -> Access<i32>) -> i32 {
    let (host, store): (&mut Host, StoreMut<'_>) = env.data_and_store_mut();
    let memory: Option<Memory> = host.attached().map(|(memory, _)| memory);
    match memory.map(|memory| body(host, Guest(memory.view(&store)))) {
        Some(Ok(errno)) => errno,
        Some(Err(Fault)) | None => FAULT,
    }
}

/// Any function of preview1 that a task does not get.
pub(super) fn unsupported(env: &mut Env<'_>, fd: Option<u32>) -> Answer {
    pay(env, HOST_CALL)?;
    Ok(if fd.is_some_and(|fd| !env.data().is_open(fd)) { BADF } else { NOSYS })
}

pub(super) fn args_sizes_get(mut env: Env<'_>, count: u32, size: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    Ok(with(&mut env, |host, guest| {
        guest.write_u32(count, len_u32(host.args.len()))?;
        guest.write_u32(size, len_u32(host.args.iter().map(Vec::len).sum()))?;
        Ok(SUCCESS)
    }))
}

pub(super) fn args_get(mut env: Env<'_>, pointers: u32, bytes: u32) -> Answer {
    let total: usize = env.data().args.iter().map(|arg| arg.len() + 4).sum();
    pay(&mut env, HOST_CALL + total as u64 / BYTES_PER_FUEL)?;
    Ok(with(&mut env, |host, guest| {
        let (mut pointer, mut at) = (u64::from(pointers), u64::from(bytes));
        for arg in &host.args {
            let address = u32::try_from(at).map_err(|_| Fault)?;
            guest.write(pointer, &address.to_le_bytes())?;
            guest.write(at, arg)?;
            pointer += 4;
            at += arg.len() as u64;
        }
        Ok(SUCCESS)
    }))
}

pub(super) fn environ_sizes_get(mut env: Env<'_>, count: u32, size: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    Ok(with(&mut env, |_, guest| {
        guest.write_u32(count, 0)?;
        guest.write_u32(size, 0)?;
        Ok(SUCCESS)
    }))
}

pub(super) fn environ_get(mut env: Env<'_>, _pointers: u32, _bytes: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    Ok(SUCCESS)
}

pub(super) fn clock_res_get(mut env: Env<'_>, clock: u32, at: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    if clock > 3 {
        return Ok(INVAL);
    }
    Ok(with(&mut env, |_, guest| {
        guest.write(at.into(), &CLOCK_STEP_NANOS.to_le_bytes())?;
        Ok(SUCCESS)
    }))
}

pub(super) fn clock_time_get(mut env: Env<'_>, clock: u32, _precision: u64, at: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    if clock > 3 {
        return Ok(INVAL);
    }
    Ok(with(&mut env, |host, guest| {
        let start = if clock == 0 { CLOCK_START_NANOS } else { 0 };
        guest.write(at.into(), &start.wrapping_add(host.elapsed_nanos()).to_le_bytes())?;
        Ok(SUCCESS)
    }))
}

pub(super) fn random_get(mut env: Env<'_>, at: u32, len: u32) -> Answer {
    pay(&mut env, HOST_CALL + u64::from(len) / BYTES_PER_FUEL)?;
    Ok(with(&mut env, |host, guest| {
        let (mut at, end) = (u64::from(at), u64::from(at) + u64::from(len));
        if end > guest.0.data_size() {
            return Err(Fault);
        }
        let mut chunk = [0; CHUNK];
        while at < end {
            let part = &mut chunk[..CHUNK.min((end - at) as usize)];
            for word in part.chunks_mut(8) {
                word.copy_from_slice(&host.random()[..word.len()]);
            }
            guest.write(at, part)?;
            at += part.len() as u64;
        }
        Ok(SUCCESS)
    }))
}

pub(super) fn sched_yield(mut env: Env<'_>) -> Answer {
    pay(&mut env, HOST_CALL)?;
    Ok(SUCCESS)
}

pub(super) fn proc_exit(mut env: Env<'_>, code: u32) -> Result<(), Stop> {
    pay(&mut env, HOST_CALL)?;
    Err(Stop::Exit(code))
}

pub(super) fn fd_close(mut env: Env<'_>, fd: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    let host = env.data_mut();
    if !host.is_open(fd) {
        return Ok(BADF);
    }
    host.close(fd);
    Ok(SUCCESS)
}

pub(super) fn fd_fdstat_get(mut env: Env<'_>, fd: u32, at: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    Ok(with(&mut env, |host, guest| {
        if !host.is_open(fd) {
            return Ok(BADF);
        }
        // File type 0, unknown: no terminal, so that C buffers whole blocks. Then flags, and rights of the descriptor.
        let mut stat = [0; 24];
        let rights = if fd == STDIN { RIGHT_FD_READ } else { RIGHT_FD_WRITE };
        stat[8..16].copy_from_slice(&rights.to_le_bytes());
        guest.write(at.into(), &stat)?;
        Ok(SUCCESS)
    }))
}

pub(super) fn fd_fdstat_set_flags(mut env: Env<'_>, fd: u32, _flags: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    Ok(if env.data().is_open(fd) { NOSYS } else { BADF })
}

pub(super) fn fd_filestat_get(mut env: Env<'_>, fd: u32, at: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    Ok(with(&mut env, |host, guest| {
        if !host.is_open(fd) {
            return Ok(BADF);
        }
        guest.write(at.into(), &[0; 64])?;
        Ok(SUCCESS)
    }))
}

/// The three streams cannot seek, which `ESPIPE` says to C's library; there is nothing else to seek in.
pub(super) fn fd_seek(mut env: Env<'_>, fd: u32, _offset: u64, _whence: u32, _at: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    Ok(if env.data().is_open(fd) { SPIPE } else { BADF })
}

pub(super) fn fd_tell(mut env: Env<'_>, fd: u32, _at: u32) -> Answer {
    pay(&mut env, HOST_CALL)?;
    Ok(if env.data().is_open(fd) { SPIPE } else { BADF })
}

pub(super) fn fd_read(mut env: Env<'_>, fd: u32, list: u32, count: u32, done: u32) -> Answer {
    let buffers = match begin(&mut env, fd == STDIN, fd, list, count, done)? {
        Ok(buffers) => buffers,
        Err(errno) => return Ok(errno),
    };
    let moved = buffers.total.min(env.data().stdin_left() as u64);
    pay_bytes(&mut env, moved)?;
    Ok(with(&mut env, |host, guest| {
        for (at, len) in buffers.list {
            guest.write(at.into(), host.read(len as usize))?;
        }
        guest.write_u32(done, u32::try_from(moved).map_err(|_| Fault)?)?;
        Ok(SUCCESS)
    }))
}

pub(super) fn fd_write(mut env: Env<'_>, fd: u32, list: u32, count: u32, done: u32) -> Answer {
    let buffers = match begin(&mut env, fd != STDIN, fd, list, count, done)? {
        Ok(buffers) => buffers,
        Err(errno) => return Ok(errno),
    };
    pay_bytes(&mut env, buffers.total)?;
    if fd == STDOUT && buffers.total > env.data().room(fd) as u64 {
        return Err(Stop::OutputFull);
    }
    Ok(with(&mut env, |host, guest| {
        for (at, len) in buffers.list {
            let keep = (len as usize).min(host.room(fd));
            let stream = host.stream(fd);
            let before = stream.len();
            stream.resize(before + keep, 0);
            guest.read(at.into(), &mut stream[before..])?;
        }
        guest.write_u32(done, u32::try_from(buffers.total).map_err(|_| Fault)?)?;
        Ok(SUCCESS)
    }))
}

/// What reads and writes have in common: paid for, and no pointer left that leads out of memory.
fn begin(
    env: &mut Env<'_>,
    allowed: bool,
    fd: u32,
    list: u32,
    count: u32,
    done: u32,
) -> Result<Result<Buffers, i32>, Stop> {
    pay(env, HOST_CALL + u64::from(count.min(MAX_BUFFERS)) * BUFFER)?;
    if !allowed || !env.data().is_open(fd) {
        return Ok(Err(BADF));
    }
    if count > MAX_BUFFERS {
        return Ok(Err(INVAL));
    }
    let mut buffers = Buffers::default();
    let errno = with(env, |_, guest| {
        buffers = guest.buffers(list, count)?;
        guest.read(done.into(), &mut [0; 4])?;
        Ok(if u32::try_from(buffers.total).is_ok() { SUCCESS } else { INVAL })
    });
    Ok(if errno == SUCCESS { Ok(buffers) } else { Err(errno) })
}

/// Arguments are at most 64 KiB together, and so are their counts and sizes.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).expect("arguments are capped far below 2^32")
}
