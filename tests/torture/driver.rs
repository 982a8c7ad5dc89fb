//! Runs a call of the helper under a seccomp filter, counts the system calls, and at one of them kills the helper or makes the
//! system call fail. The scenes describe their calls with [`Call`], and `steps` runs them with each [`Fault`].

use crate::environment;
use crate::kernel::{self, Answer, Event, Filtered, Launch, SystemCall, Watched};
use crate::place::{self, Place};
use crate::syscalls;
use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A disturbance of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call runs undisturbed, and its system calls are counted.
    None,
    /// SIGKILL before system call N, counted over the helper and its forks.
    Kill(usize),
    /// System call N fails with this errno, without running.
    Fail(usize, i32),
    /// System call N and each later call with the same number fails: a full disk, for example, stays full.
    FailOn(usize, i32),
}

impl Fault {
    fn at(self) -> usize {
        match self {
            Self::None => 0,
            Self::Kill(at) | Self::Fail(at, _) | Self::FailOn(at, _) => at,
        }
    }
}

/// The system call at which the action of [`Call::when_it_waits`] runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitKind {
    /// One that blocks until a lock, or a part of it, is free.
    Lock,
    /// The second one that blocks until a part of a lock is free: after the turnstile, a slot.
    Slot,
    /// One that blocks until the whole lock is free.
    Whole,
    /// One that blocks until an event or the end of a pause.
    Event,
}

/// A call of the helper, or of a script that calls it.
pub(crate) struct Call {
    pub(crate) program: Option<&'static str>,
    pub(crate) words: Vec<OsString>,
    pub(crate) input: Vec<u8>,
    /// Pairs of a descriptor of this process and its number in the called one.
    pub(crate) descriptors: Vec<(RawFd, RawFd)>,
    pub(crate) variables: Vec<(&'static str, String)>,
    /// Runs when the helper makes a system call of this kind.
    pub(crate) when_it_waits: Option<(WaitKind, Box<dyn FnOnce()>)>,
}

impl Call {
    pub(crate) fn new<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(words: I) -> Self {
        let words = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        Self {
            program: None,
            words,
            input: Vec::new(),
            descriptors: Vec::new(),
            variables: Vec::new(),
            when_it_waits: None,
        }
    }

    /// A call of a bash script, in which `$LIBRARY` is the path of the shell library.
    pub(crate) fn bash(script: &str) -> Self {
        let call = Self::new(["-c", script]).variable("LIBRARY", environment::LIBRARY);
        Self { program: Some("/bin/bash"), ..call }
    }

    pub(crate) fn input(mut self, input: &str) -> Self {
        self.input = input.into();
        self
    }

    pub(crate) fn descriptor(mut self, file: &File, number: RawFd) -> Self {
        self.descriptors.push((file.as_raw_fd(), number));
        self
    }

    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    pub(crate) fn when_it_waits(self, action: impl FnOnce() + 'static) -> Self {
        self.when_it_waits_for(WaitKind::Lock, action)
    }

    pub(crate) fn when_it_waits_for(mut self, kind: WaitKind, action: impl FnOnce() + 'static) -> Self {
        self.when_it_waits = Some((kind, Box::new(action)));
        self
    }
}

/// The result of a call.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit status, 128 + n after signal n.
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    /// The numbers of the system calls of the helper, in order.
    pub(crate) calls: Vec<i64>,
    /// The number of the disturbed system call, if the helper reached it.
    pub(crate) hit: Option<i64>,
    /// `true` if the helper made a call that acquires or releases a lock.
    pub(crate) used_lock: bool,
    /// `true` if the call was killed because it took too long.
    pub(crate) hung: bool,
}

/// Starts a call under a filter.
fn start(place: &Place, call: &Call, files: [&File; 3], watched: Watched) -> io::Result<Filtered> {
    let c_string = |bytes: &[u8]| CString::new(bytes).expect("no NUL");
    let program = call.program.map_or(place.helper.as_path(), Path::new);
    let mut argv = vec![c_string(program.as_os_str().as_bytes())];
    argv.extend(call.words.iter().map(|word| c_string(word.as_bytes())));
    let mut variables = place.variables();
    variables.extend(call.variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))));
    let assign = |(name, value): &(String, OsString)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat());
    let environment = variables.iter().map(assign).collect();
    let mut descriptors: Vec<(RawFd, RawFd)> = files.iter().map(|file| file.as_raw_fd()).zip(0..).collect();
    descriptors.extend(&call.descriptors);
    let directory = c_string(place.directory.as_os_str().as_bytes());
    kernel::start_filtered(&Launch { argv, environment, directory, descriptors, watched })
}

/// Files for stdin, stdout and stderr of a call.
fn create_files() -> io::Result<[File; 3]> {
    Ok([kernel::create_memory_file()?, kernel::create_memory_file()?, kernel::create_memory_file()?])
}

/// Runs a call with a fault.
pub(crate) fn run(place: &Place, mut call: Call, fault: Fault) -> io::Result<Outcome> {
    let files = create_files()?;
    (&files[0]).write_all(&call.input)?;
    (&files[0]).seek(SeekFrom::Start(0))?;
    let started = start(place, &call, [&files[0], &files[1], &files[2]], Watched::Every)?;
    let mut tree = ProcessTree {
        fault,
        helper: place.helper.clone(),
        is_helper: HashMap::new(),
        calls: Vec::new(),
        hit: None,
        used_lock: false,
    };
    let (begin, mut hung, mut ended, mut ranges) = (Instant::now(), false, None, 0);
    loop {
        match started.listener.receive(Duration::from_millis(20)) {
            Event::Call(asked) => {
                let answer = tree.answer(&asked);
                if let Some((_, action)) = call.when_it_waits.take_if(|(kind, _)| waits_for(&asked, *kind, ranges)) {
                    action();
                }
                ranges += usize::from(is_fcntl(&asked, &[libc::F_SETLKW]));
                if let Some(answer) = answer {
                    started.listener.answer(&asked, answer);
                }
            }
            // Before Linux 6.11, a listener does not hang up before the last process is reaped.
            Event::Nothing => ended = ended.or_else(|| kernel::try_wait(started.pid)),
            Event::HungUp => break,
        }
        if begin.elapsed() > place.patience && !hung {
            hung = true;
            tree.kill_all();
        } else if begin.elapsed() > place.patience * 2 {
            break;
        }
    }
    let status = ended.unwrap_or_else(|| kernel::wait(started.pid));
    let [_, out, err] = &files;
    Ok(Outcome {
        status,
        out: place::read_text(out),
        err: place::read_text(err),
        calls: tree.calls,
        hit: tree.hit,
        used_lock: tree.used_lock,
        hung,
    })
}

/// Returns an error if this machine does not allow filters with a listener.
pub(crate) fn check_support(place: &Place) -> io::Result<()> {
    run(place, Call::new(["--version"]), Fault::None).map(drop)
}

/// Returns whether an fcntl(2) call has one of these operations.
fn is_fcntl(asked: &SystemCall, operations: &[i32]) -> bool {
    asked.number == libc::SYS_fcntl && operations.iter().any(|what| asked.args[1] == u64::from(what.cast_unsigned()))
}

/// Returns whether a system call is of this kind. `earlier` is the number of earlier ones that block until a part of a lock is free.
fn waits_for(asked: &SystemCall, kind: WaitKind, earlier: usize) -> bool {
    let is_flock = || {
        asked.number == libc::SYS_flock
            && asked.args[1] & u64::from((libc::LOCK_NB | libc::LOCK_UN).cast_unsigned()) == 0
    };
    match kind {
        WaitKind::Lock => is_flock() || is_fcntl(asked, &[libc::F_OFD_SETLKW, libc::F_SETLKW]),
        WaitKind::Slot => is_fcntl(asked, &[libc::F_SETLKW]) && earlier > 0,
        WaitKind::Whole => is_flock(),
        WaitKind::Event => syscalls::waits_for_event(asked.number, &asked.args),
    }
}

fn uses_lock(asked: &SystemCall) -> bool {
    asked.number == libc::SYS_flock
        || is_fcntl(asked, &[libc::F_OFD_SETLK, libc::F_OFD_SETLKW, libc::F_SETLK, libc::F_SETLKW])
}

/// Returns whether the operation of an fcntl(2) call can fail with this error. The operations that read or set a flag or the
/// owner cannot fail.
fn allows_error(asked: &SystemCall, errno: i32) -> bool {
    let waits = || is_fcntl(asked, &[libc::F_OFD_SETLKW, libc::F_SETLKW]);
    let locks = || waits() || is_fcntl(asked, &[libc::F_OFD_SETLK, libc::F_SETLK]);
    let copies = || is_fcntl(asked, &[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC]);
    let leases = || is_fcntl(asked, &[libc::F_SETLEASE]);
    asked.number != libc::SYS_fcntl
        || match errno {
            libc::EINTR => waits(),
            libc::ENOLCK => locks(),
            libc::EMFILE => copies(),
            libc::EAGAIN | libc::EACCES => locks() || leases(),
            _ => locks() || copies() || leases(),
        }
}

/// Returns `false` for reads and writes of pipes and sockets, which do not fail with errors of disks.
fn is_on_disk(asked: &SystemCall) -> bool {
    let reads_or_writes = [
        libc::SYS_read,
        libc::SYS_pread64,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_writev,
        libc::SYS_lseek,
    ];
    let link = || fs::read_link(format!("/proc/{}/fd/{}", asked.pid, asked.args[0])).unwrap_or_default();
    !reads_or_writes.contains(&asked.number) || link().is_absolute()
}

/// Returns whether a system call opens or reads a file in `/proc`, whose errors do not last.
fn is_in_proc(asked: &SystemCall) -> bool {
    use std::os::unix::fs::FileExt;
    let (pid, fd) = (asked.pid, asked.args[0]);
    let of_descriptor = || fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|path| path.starts_with("/proc"));
    if asked.number != libc::SYS_openat {
        return of_descriptor();
    }
    let mut path = [0; 5];
    let memory = File::open(format!("/proc/{pid}/mem"));
    let is_read = memory.is_ok_and(|memory| memory.read_exact_at(&mut path, asked.args[1]).is_ok());
    is_read && (path == *b"/proc" || path[0] != b'/' && of_descriptor())
}

/// The processes of one call.
struct ProcessTree {
    fault: Fault,
    helper: PathBuf,
    /// For each process, whether it runs the helper. Calls of other programs are not counted, nor those of [`environment::UNWATCHED`].
    is_helper: HashMap<u32, bool>,
    calls: Vec<i64>,
    hit: Option<i64>,
    used_lock: bool,
}

impl ProcessTree {
    /// Returns the answer to a system call, or `None` if the process was killed.
    fn answer(&mut self, asked: &SystemCall) -> Option<Answer> {
        let helper = &self.helper;
        let runs_helper = |pid| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program: PathBuf| program == *helper)
                && fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|words| !words.starts_with(environment::UNWATCHED.as_bytes()))
        };
        let is_helper = *self.is_helper.entry(asked.pid).or_insert_with(|| runs_helper(asked.pid));
        if asked.number == libc::SYS_execve {
            self.is_helper.remove(&asked.pid);
        }
        if !is_helper {
            return Some(Answer::GoOn);
        }
        self.calls.push(asked.number);
        self.used_lock |= uses_lock(asked);
        let is_nth = self.calls.len() == self.fault.at();
        let lasts = matches!(self.fault, Fault::FailOn(..));
        let again = lasts && self.hit == Some(asked.number);
        // The number of other processes on the machine changes from run to run. So call N may be another one than in the run
        // that counted the calls, with other errors.
        let fits = |errno| {
            syscalls::list_errors(asked.number).contains(&errno)
                && (errno == libc::EINTR || is_on_disk(asked))
                && allows_error(asked, errno)
                && !(lasts && is_in_proc(asked))
        };
        match self.fault {
            Fault::Kill(_) if is_nth => {
                self.hit = Some(asked.number);
                kernel::kill(asked.pid, libc::SIGKILL);
                None
            }
            Fault::Fail(_, errno) | Fault::FailOn(_, errno) if (is_nth || again) && fits(errno) => {
                self.hit = Some(asked.number);
                Some(Answer::Fail(errno))
            }
            _ => Some(Answer::GoOn),
        }
    }

    fn kill_all(&self) {
        for pid in self.is_helper.keys() {
            kernel::kill(*pid, libc::SIGKILL);
        }
    }
}

/// Runs a call whose programs see a clock that is `seconds` ahead. Returns its exit status and what it wrote to stderr.
pub(crate) fn run_at_another_time(place: &Place, call: &Call, seconds: i64) -> io::Result<(i32, String)> {
    let files = create_files()?;
    let started = start(place, call, [&files[0], &files[1], &files[2]], Watched::Clock)?;
    let (begin, mut ended) = (Instant::now(), None);
    loop {
        match started.listener.receive(Duration::from_millis(20)) {
            Event::Call(asked) => {
                let done = asked.number == libc::SYS_clock_gettime
                    && asked.args[0] == u64::from(libc::CLOCK_REALTIME.cast_unsigned())
                    && write_time(&asked, seconds).is_ok();
                started.listener.answer(&asked, if done { Answer::Done } else { Answer::GoOn });
            }
            Event::Nothing => ended = ended.or_else(|| kernel::try_wait(started.pid)),
            Event::HungUp => break,
        }
        if begin.elapsed() > place.patience {
            kernel::kill(started.pid.cast_unsigned(), libc::SIGKILL);
            break;
        }
    }
    let status = ended.unwrap_or_else(|| kernel::wait(started.pid));
    Ok((status, place::read_text(&files[2])))
}

/// Writes the shifted time to where the process expects the result of `clock_gettime(2)`.
fn write_time(asked: &SystemCall, seconds: i64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut time = (i64::try_from(now.as_secs()).unwrap() + seconds).to_ne_bytes().to_vec();
    time.extend(i64::from(now.subsec_nanos()).to_ne_bytes());
    let memory = File::options().write(true).open(Path::new("/proc").join(asked.pid.to_string()).join("mem"))?;
    memory.write_all_at(&time, asked.args[1])
}
