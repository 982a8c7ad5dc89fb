//! Showing the output of a run to a waiter until the run ends.

use super::directory::Task;
use super::foreign::ForeignWatch;
use super::state::Running;
use super::stream::Stream;
use crate::os;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Pauses between the looks that follow new output or a change in the directory. After the last of them, the waiter
/// sleeps until the directory changes, so that it does not poll.
const LOOK_PAUSES: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];

/// Callbacks that report a wait to the user.
pub trait TaskWaitObserver {
    /// Returns the interval at which [`TaskWaitObserver::on_tick`] is called. `None`: it is not called.
    fn tick_interval(&self) -> Option<Duration>;
    /// The task is running, and the wait begins.
    fn on_begin(&mut self, task: &Task, running: Running);
    /// The wait continues.
    fn on_tick(&mut self, task: &Task, running: Running);
    /// The wait has ended.
    fn on_end(&mut self);
    /// The wait is for a process that holds the lock and does not run the task.
    fn on_blocked(&mut self, task: &Task);
    /// Shows output of the command. Returns the number of bytes that were shown, which is less than all after a signal.
    fn write_output(&mut self, stream: Stream, bytes: &[u8]) -> usize;
}

/// The event that ended [`Task::follow`].
pub(super) enum FollowEnd {
    RunEnded,
    TimedOut,
    Interrupted,
}

/// A log, and the position up to which it was shown.
struct LogReader {
    stream: Stream,
    file: Option<File>,
    at: u64,
}

impl LogReader {
    fn for_logs(files: [Option<File>; 2]) -> [Self; 2] {
        let [out, err] = files;
        [(Stream::Out, out), (Stream::Err, err)].map(|(stream, file)| Self { stream, file, at: 0 })
    }

    /// Shows up to one buffer of new output. Returns false if there is none.
    fn show_some(&mut self, observer: &mut dyn TaskWaitObserver) -> bool {
        let mut bytes = [0; 16 * 1024];
        let Some(Ok(len)) = self.file.as_ref().map(|file| file.read_at(&mut bytes, self.at)) else { return false };
        if len == 0 {
            return false;
        }
        let shown = observer.write_output(self.stream, &bytes[..len]);
        self.at += shown as u64;
        true
    }
}

impl Task<'_> {
    /// Shows the output of a run until the run has ended.
    pub(super) fn follow(
        &self,
        run: Running,
        logs: [Option<File>; 2],
        deadline: Option<Instant>,
        observer: &mut dyn TaskWaitObserver,
        interrupts: &os::Interrupts,
    ) -> FollowEnd {
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut changes = os::DirectoryWatch::new(self.directory());
        let mut readers = LogReader::for_logs(logs);
        // A blocking write to a reader that does not read must end at the deadline, too.
        interrupts.or_after(left());
        let mut pauses = LOOK_PAUSES.iter();
        let mut watch = ForeignWatch::with_run(self, run);
        loop {
            // The state is read before the logs: when the run has ended, its last output is in the logs.
            let is_running = match run.holder {
                Some(_) => watch.find_foreign_run().is_some(),
                None => self.look().running.is_some_and(|running| running.pid == run.pid),
            };
            // At most one buffer of each log is shown before the time is checked, in case a log grows fast or its reader is slow.
            let has_more = readers.each_mut().map(|reader| reader.show_some(observer)).contains(&true);
            if interrupts.came() {
                return FollowEnd::Interrupted;
            }
            if left() == Some(Duration::ZERO) {
                return FollowEnd::TimedOut;
            }
            if has_more {
                pauses = LOOK_PAUSES.iter();
            } else if !is_running {
                return FollowEnd::RunEnded;
            } else {
                // A change is reported a moment before the end of the run can be seen, so a few more looks follow.
                let pause = pauses.next().copied();
                if changes.wait([left(), pause].into_iter().flatten().min()) {
                    pauses = LOOK_PAUSES.iter();
                }
            }
        }
    }
}
