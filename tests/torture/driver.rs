//! Runs a call of the helper, counts its system calls, and at one of them kills it or makes the call fail.

use crate::errors;
use crate::kernel::{self, Answer, Ask, Asked, Filtered, Heard, Start};
use crate::place::{self, Place};
use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is done to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: it is only counted.
    None,
    /// SIGKILL before system call N of the helper and of what it forks.
    Kill(usize),
    /// System call N fails with this errno, and is not made.
    Fail(usize, i32),
    /// It, and from then on each call of the same name: a disk stays full, a table of files stays.
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

/// A call of the helper, or of a script that calls it.
pub(crate) struct Call {
    pub(crate) program: Option<&'static str>,
    pub(crate) words: Vec<OsString>,
    pub(crate) input: Vec<u8>,
    /// Descriptors that it gets, and on which numbers.
    pub(crate) descriptors: Vec<(RawFd, RawFd)>,
    pub(crate) variables: Vec<(&'static str, String)>,
    /// Done when it is about to block for a lock, or would if that were not free by then.
    pub(crate) when_it_waits: Option<Box<dyn FnOnce()>>,
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

    /// A bash script, in which `$LIBRARY` is the shell library.
    pub(crate) fn bash(script: &str) -> Self {
        let call = Self::new(["-c", script]).variable("LIBRARY", crate::LIBRARY);
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

    pub(crate) fn when_it_waits(mut self, action: impl FnOnce() + 'static) -> Self {
        self.when_it_waits = Some(Box::new(action));
        self
    }
}

/// How a call ended, and what it did on the way.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit status, 128 + n for signal n.
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    /// The numbers of the system calls of the helper, in their order.
    pub(crate) calls: Vec<i64>,
    /// The call to which the fault was done, if it came as far as that.
    pub(crate) hit: Option<i64>,
    /// Whether it had to be ended because it took too long.
    pub(crate) hung: bool,
}

/// A file without a name, for what a process reads or prints: nobody has to stand at the end of a pipe.
fn scratch() -> io::Result<File> {
    let name = CString::new("torture").unwrap();
    kernel::memory_file(&name)
}

/// Starts it under a filter.
pub(crate) fn start(place: &Place, call: &Call, files: [&File; 3], ask: Ask) -> io::Result<Filtered> {
    let c_string = |bytes: &[u8]| CString::new(bytes).expect("no NUL");
    let program = call.program.map_or(place.helper.as_path(), Path::new);
    let mut argv = vec![c_string(program.as_os_str().as_bytes())];
    argv.extend(call.words.iter().map(|word| c_string(word.as_bytes())));
    let mut variables = place.variables();
    variables.extend(call.variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))));
    let line = |(name, value): &(String, OsString)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat());
    let environment = variables.iter().map(line).collect();
    let mut descriptors: Vec<(RawFd, RawFd)> = files.iter().map(|file| file.as_raw_fd()).zip(0..).collect();
    descriptors.extend(&call.descriptors);
    let directory = c_string(place.directory.as_os_str().as_bytes());
    kernel::start(&Start { argv, environment, directory, descriptors, ask })
}

/// Runs it.
pub(crate) fn run(place: &Place, mut call: Call, fault: Fault) -> io::Result<Ended> {
    let files = [scratch()?, scratch()?, scratch()?];
    (&files[0]).write_all(&call.input)?;
    (&files[0]).seek(SeekFrom::Start(0))?;
    let started = start(place, &call, [&files[0], &files[1], &files[2]], Ask::Every)?;
    let mut tree = Tree { fault, helper: place.helper.clone(), ours: HashMap::new(), calls: Vec::new(), hit: None };
    let (begin, mut hung, mut ended) = (Instant::now(), false, None);
    loop {
        match started.listener.hear(Duration::from_millis(20)) {
            Heard::Call(asked) => {
                let answer = tree.answer(&asked);
                if blocks(&asked)
                    && let Some(action) = call.when_it_waits.take()
                {
                    action();
                }
                if let Some(answer) = answer {
                    started.listener.answer(&asked, answer);
                }
            }
            // Before Linux 6.11 one that has ended counts until it is reaped.
            Heard::Nothing => ended = ended.or_else(|| kernel::try_wait(started.pid)),
            Heard::HungUp => break,
        }
        if begin.elapsed() > place.patience && !hung {
            hung = true;
            tree.end();
        } else if begin.elapsed() > place.patience * 2 {
            break;
        }
    }
    let status = ended.unwrap_or_else(|| kernel::wait(started.pid));
    let [_, out, err] = &files;
    Ok(Ended { status, out: place::text(out), err: place::text(err), calls: tree.calls, hit: tree.hit, hung })
}

/// Whether calls can be counted here at all, which needs a filter with a listener.
pub(crate) fn is_possible(place: &Place) -> io::Result<()> {
    run(place, Call::new(["--version"]), Fault::None).map(drop)
}

/// Whether this call waits for a lock.
fn blocks(asked: &Asked) -> bool {
    let is_range = asked.number == libc::SYS_fcntl && asked.args[1] == u64::from(libc::F_OFD_SETLKW.cast_unsigned());
    let is_flock = asked.number == libc::SYS_flock
        && asked.args[1] & u64::from(libc::LOCK_NB.cast_unsigned()) == 0
        && asked.args[1] & u64::from(libc::LOCK_UN.cast_unsigned()) == 0;
    is_flock || is_range
}

/// Whether a call of this kind has this error: fcntl(2) does many things, and some errors are those of locks.
fn has(asked: &Asked, errno: i32) -> bool {
    let is_lock = [libc::F_OFD_SETLK, libc::F_OFD_SETLKW].map(|what| u64::from(what.cast_unsigned()));
    asked.number != libc::SYS_fcntl
        || match errno {
            libc::EINTR => asked.args[1] == is_lock[1],
            libc::ENOLCK => is_lock.contains(&asked.args[1]),
            libc::EMFILE => !is_lock.contains(&asked.args[1]),
            _ => true,
        }
}

/// Whether it is none of those that read or write, or does that to a file: pipes and sockets have no such errors.
fn is_of_disk(asked: &Asked) -> bool {
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

/// The processes of one call.
struct Tree {
    fault: Fault,
    helper: PathBuf,
    /// Which of them are the helper; the others are commands, whose calls are not counted.
    ours: HashMap<u32, bool>,
    calls: Vec<i64>,
    /// The number of the call that was made to fail.
    hit: Option<i64>,
}

impl Tree {
    /// What to answer; `None`: nobody waits for an answer any more.
    fn answer(&mut self, asked: &Asked) -> Option<Answer> {
        let helper = &self.helper;
        let is_helper =
            |pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program: PathBuf| program == *helper);
        let ours = *self.ours.entry(asked.pid).or_insert_with(|| is_helper(asked.pid));
        if asked.number == libc::SYS_execve {
            self.ours.remove(&asked.pid);
        }
        if !ours {
            return Some(Answer::GoOn);
        }
        self.calls.push(asked.number);
        let is_it = self.calls.len() == self.fault.at();
        let again = matches!(self.fault, Fault::FailOn(..)) && self.hit == Some(asked.number);
        // What is seen of other processes changes from run to run, and with it which call is the Nth.
        let fits = |errno| {
            errors::of(asked.number).contains(&errno)
                && (errno == libc::EINTR || is_of_disk(asked))
                && has(asked, errno)
        };
        match self.fault {
            Fault::Kill(_) if is_it => {
                self.hit = Some(asked.number);
                kernel::kill(asked.pid, libc::SIGKILL);
                None
            }
            Fault::Fail(_, errno) | Fault::FailOn(_, errno) if (is_it || again) && fits(errno) => {
                self.hit = Some(asked.number);
                Some(Answer::Fail(errno))
            }
            _ => Some(Answer::GoOn),
        }
    }

    /// Ends all that were seen.
    fn end(&self) {
        for pid in self.ours.keys() {
            kernel::kill(*pid, libc::SIGKILL);
        }
    }
}

/// Runs a call to whose programs the clock says another time: by so many seconds. Its status, and what it said on stderr.
pub(crate) fn run_at_another_time(place: &Place, call: &Call, seconds: i64) -> io::Result<(i32, String)> {
    let files = [scratch()?, scratch()?, scratch()?];
    let started = start(place, call, [&files[0], &files[1], &files[2]], Ask::Clock)?;
    let (begin, mut ended) = (Instant::now(), None);
    loop {
        match started.listener.hear(Duration::from_millis(20)) {
            Heard::Call(asked) => {
                let done = asked.number == libc::SYS_clock_gettime
                    && asked.args[0] == u64::from(libc::CLOCK_REALTIME.cast_unsigned())
                    && tell_time(&asked, seconds).is_ok();
                started.listener.answer(&asked, if done { Answer::Done } else { Answer::GoOn });
            }
            Heard::Nothing => ended = ended.or_else(|| kernel::try_wait(started.pid)),
            Heard::HungUp => break,
        }
        if begin.elapsed() > place.patience {
            kernel::kill(started.pid.cast_unsigned(), libc::SIGKILL);
            break;
        }
    }
    let status = ended.unwrap_or_else(|| kernel::wait(started.pid));
    Ok((status, place::text(&files[2])))
}

fn tell_time(asked: &Asked, seconds: i64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut time = (i64::try_from(now.as_secs()).unwrap() + seconds).to_ne_bytes().to_vec();
    time.extend(i64::from(now.subsec_nanos()).to_ne_bytes());
    let memory = File::options().write(true).open(Path::new("/proc").join(asked.pid.to_string()).join("mem"))?;
    memory.write_all_at(&time, asked.args[1])
}
