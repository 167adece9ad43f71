//! One worker process, from the agent's side: questions, answers, and its end.

use std::{collections::VecDeque, io, pin::pin, process::Stdio, time::Duration};

use futures_util::future::{Either, select};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    Error, Sandbox,
    brake::{Brake, Turn},
    confine::{Budget, Confinement, Role},
    frame::{self, Reply, Request},
    kill::kill,
};

/// Bytes read and written at once.
const BUFFER: usize = 64 << 10;

/// How long a process that has closed its pipe may take to be gone.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Most bytes of a dying worker's last words.
const LAST_WORDS: u64 = 1024;

/// A worker process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdin: BufWriter<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
    role: Role,
    brake: Brake,
    #[cfg(target_os = "linux")]
    group: Option<super::group::Group>,
    /// Time in which it was stopped in the middle of something.
    pub(super) stopped: Duration,
    /// What keeps it in.
    pub(super) confinement: Confinement,
}

impl Process {
    /// Starts a worker and has it confine itself.
    pub(super) async fn start(sandbox: &Sandbox, budget: Budget, deadline: Duration) -> Result<Self, Error> {
        let mut command = Command::new(&sandbox.program);
        leave_files(&mut command);
        let mut child = command
            .args(&sandbox.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Spawn { program: sandbox.program.clone(), source })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Error::Host("a worker without pipes".to_owned()));
        };
        let (stdin, stdout) = (BufWriter::with_capacity(BUFFER, stdin), BufReader::with_capacity(BUFFER, stdout));
        let confinement = Confinement { layers: Vec::new() };
        let (role, brake) = (budget.role, sandbox.brake.clone());
        let mut process = Self {
            child,
            stdin,
            stdout,
            stderr,
            role,
            brake,
            #[cfg(target_os = "linux")]
            group: sandbox.group.clone(),
            stopped: Duration::ZERO,
            confinement,
        };
        #[cfg(target_os = "linux")]
        if let (Some(group), Some(id)) = (&process.group, process.id())
            && let Err(error) = group.take(id)
        {
            tracing::warn!(%error, "a worker stays in the agent's control group");
        }
        match process.ask(&Request::Begin(budget), deadline).await? {
            Reply::Confined(confinement) => process.confinement = confinement,
            Reply::Host(reason) => return Err(Error::Host(reason)),
            // No verdict about a program that it has not seen.
            _ => return Err(Error::Host("the worker answered out of turn".to_owned())),
        }
        #[cfg(target_os = "linux")]
        if let (true, Some(id)) = (sandbox.guest, process.id()) {
            let idle = super::confine::idle_cpu(id).await.map_err(|error| error.to_string());
            process.confinement.add("processors only when nobody else wants them", idle);
        }
        Ok(process)
    }

    /// The process id, while it lives.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks one thing. After an error the process is of no more use.
    pub(super) async fn ask(&mut self, request: &Request, deadline: Duration) -> Result<Reply, Error> {
        let mut replies = self.ask_all(std::slice::from_ref(request), deadline, |_| {}).await?;
        replies.pop_front().ok_or_else(|| Error::Host("the worker did not answer".to_owned()))
    }

    /// Asks several things without waiting between them; each answer has `deadline`, and is shown to `hear` when it comes. After an error the process is of no more use.
    ///
    /// # Cancel safety
    /// Not cancel safe: drop the process when the future is dropped.
    pub(super) async fn ask_all(
        &mut self,
        requests: &[Request],
        deadline: Duration,
        mut hear: impl FnMut(&Reply),
    ) -> Result<VecDeque<Reply>, Error> {
        let most = match self.role {
            Role::Compile => frame::MAX_ARTIFACT,
            Role::Execute => frame::MAX_RESULT,
        };
        // One that is dead already has nothing to stop.
        let turn = self.child.id().map(|process| self.brake.enter(process));
        let (stdin, stdout) = (&mut self.stdin, &mut self.stdout);
        let exchange = async {
            let send = pin!(async {
                for request in requests {
                    frame::send(stdin, request.encode()).await?;
                }
                stdin.flush().await
            });
            let receive = pin!(async {
                let mut replies = VecDeque::with_capacity(requests.len());
                for _ in requests {
                    let answering = frame::answer(stdout, most);
                    let reply = match &turn {
                        Some(turn) => turn.within(deadline, answering).await,
                        None => timeout(deadline, answering).await.ok(),
                    };
                    let reply = reply.ok_or(Broken::Slow)??;
                    hear(&reply);
                    replies.push_back(reply);
                }
                Ok(replies)
            });
            // What was asked is on its way before all answers are here, or they are no answers.
            match select(send, receive).await {
                Either::Left((sent, receive)) => {
                    sent?;
                    receive.await
                }
                Either::Right((received, _)) => received.and(Err(Broken::Liar)),
            }
        };
        let exchanged = exchange.await;
        let given_up = turn.as_ref().is_some_and(Turn::given_up);
        self.stopped += turn.as_ref().map_or(Duration::ZERO, Turn::stopped);
        drop(turn);
        match exchanged {
            Ok(replies) => Ok(replies),
            Err(_) if given_up => Err(Error::GivenUp),
            Err(broken) => Err(self.end(broken, deadline).await),
        }
    }

    /// Kills the process and tells why.
    async fn end(&mut self, why: Broken, deadline: Duration) -> Error {
        let error = match why {
            Broken::Slow => Error::TooSlow(deadline),
            Broken::Liar => Error::Host("the worker answered before it was asked".to_owned()),
            // Too long, or no frame at all.
            Broken::Pipe(error) if error.kind() == io::ErrorKind::InvalidData => Error::Host(error.to_string()),
            Broken::Pipe(error) => {
                let status = timeout(LAST_MOMENT, self.child.wait()).await.ok().and_then(Result::ok);
                let status = status.map_or_else(|| error.to_string(), |status| status.to_string());
                Error::Died { how: status, last_words: self.last_words().await, compiling: self.role == Role::Compile }
            }
        };
        self.kill();
        error
    }

    /// Kills the process, if it is not dead already.
    fn kill(&self) {
        if let Some(process) = self.child.id() {
            #[cfg(target_os = "linux")]
            if let Some(group) = &self.group {
                group.let_go(process);
            }
            kill(process);
        }
    }

    /// What the process has left on standard error, on one line and without control characters: a stranger's program may have
    /// chosen them.
    async fn last_words(&mut self) -> String {
        let mut words = Vec::new();
        // Those that somebody else still keeps open are not waited for.
        let _ = timeout(LAST_MOMENT, (&mut self.stderr).take(LAST_WORDS).read_to_end(&mut words)).await;
        let words = String::from_utf8_lossy(&words);
        words.split_whitespace().collect::<Vec<_>>().join(" ").escape_debug().to_string()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Keeps what the agent has inherited itself, and would pass on, from the worker.
#[cfg(target_os = "linux")]
fn leave_files(command: &mut Command) {
    let close = || {
        let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
        // SAFETY: it only marks descriptors of the new process, which is about to become another program.
        #[expect(unsafe_code, reason = "no crate here has this system call")]
        unsafe {
            // A kernel before 5.11 does not know it; what this program opens itself is never passed on.
            libc::close_range(3, u32::MAX, flags);
        }
        Ok(())
    };
    // SAFETY: between `fork` and `exec`, `close` makes a system call and touches nothing else.
    #[expect(unsafe_code, reason = "code between fork and exec has to be chosen with care")]
    unsafe {
        command.pre_exec(close);
    }
}

#[cfg(not(target_os = "linux"))]
fn leave_files(_: &mut Command) {}

/// Why an exchange ended.
enum Broken {
    Slow,
    Liar,
    Pipe(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Pipe(error)
    }
}

/// What an answer that was not asked for means.
pub(super) fn out_of_turn(reply: Reply) -> Error {
    match reply {
        Reply::Refused(reason) => Error::Refused(reason),
        Reply::Host(reason) => Error::Host(reason),
        _ => Error::Host("the worker answered out of turn".to_owned()),
    }
}
