//! The keeper: two processes that keep a lease for a script, and give it back when the script has ended.
//!
//! The **guard** sends no requests while the script lives. It waits for the script's byte (see [`crate::binding`]),
//! knows when the lease ends, and ends the script before that. The **courier**, its child, renews the lease, and
//! reports each renewal to the guard in shared memory. So a server that does not answer, or a name that does not
//! resolve, never delays the guard, which has to act in time, and each of the two can work without the other. Both are
//! in a session of their own, and have none of the caller's descriptors open, only a new open file description of the
//! lock file.
//!
//! # Killed processes and lost leases
//!
//! | event | what happens |
//! |---|---|
//! | the script ends in any way | the kernel closes its descriptors; the guard gets the byte, ends the courier, and gives the lease back |
//! | the script ends, and a process that inherited its descriptor lives on | nothing: that process holds the lock, and the lease is kept |
//! | the acquiring process is killed before there is a keeper | the lease ends by itself; the script gets an exit status other than 0 |
//! | the acquiring process is killed after that | the script closes its descriptor because of the exit status, and the guard gives the lease back |
//! | the courier is killed, stopped, or hangs | the guard starts another one, at the latest after half of the time to live |
//! | both get a signal that ends processes, as all members of a control group do | nothing: they ignore INT, TERM, HUP and QUIT |
//! | the script ends while the guard is stopped | the courier sees that the script's byte is free, and stops renewing |
//! | the guard is killed | the courier sees that its parent has changed, becomes the guard, and starts another courier |
//! | both are killed | the lease ends, and another process may get it while the script runs. `aba_lock_check` reports that, and the resource can refuse the old fencing token |
//! | the whole machine or the PID namespace ends | the script ends, too; the lease ends by itself |
//! | the server or the network fails | renewals fail: the script gets SIGTERM at `renewed_at + ttl - grace`, and SIGKILL shortly before `renewed_at + ttl`, so before the server can grant the lease to another process |
//! | script and keeper are frozen for longer than the lease lives | the guard first sends SIGKILL to the script; after SIGTERM, the script could go on while another process holds the lease. Between the thaw and that signal, the script can run |
//! | the lease is ended by another user | the courier learns of it at its next renewal; the script gets SIGTERM, and SIGKILL after the grace |
//!
//! `renewed_at` is the moment at which the last successful renewal was sent. All times are on a clock that counts the
//! time in which the machine is suspended.

pub(crate) mod holders;
pub(crate) mod kept_lease;
pub(crate) mod loss;
pub(crate) mod processes;
pub(crate) mod shared_state;
pub(crate) mod start;
