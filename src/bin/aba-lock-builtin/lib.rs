//! A builtin for bash, `__aba_builtin`, that acquires and releases a lock in the process of the script. The shell library loads it
//! with `enable -f`, if the user asks for that, and calls the helper whenever the builtin cannot do what is asked.
//!
//! ```text
//! __aba_builtin version VERSION    0: the builtin is of this version
//! __aba_builtin lock NAME          200 to 254: the lock is held, on this descriptor
//! __aba_builtin unlock [NAME]      0: the lock was released, and its descriptor is closed
//! ```
//!
//! Every other status means that nothing was done. The builtin reads the variables of the library, and the library changes them.
//!
//! The builtin is a guest in the shell of a user. It prints nothing, keeps no memory or descriptor, and catches every panic. It calls
//! no function of bash that could jump out of it with longjmp(3), which must not skip the frames of Rust functions.
//!
//! The modules in their order: `bash` has the types and functions of bash; `call` does what a call asks for.

mod bash;
mod call;

use aba_lock::os;
use bash::{BuiltinRecord, WordList};
use std::ffi::c_int;
use std::panic;
use std::ptr;
use std::sync::Once;

#[global_allocator]
static HEAP: os::Heap = os::Heap;

/// The status of a call that has done nothing.
const REFUSED: c_int = 1;

/// The texts of `help __aba_builtin`.
#[repr(transparent)]
struct HelpText([*const libc::c_char; 2]);

// SAFETY: the texts are constants.
#[expect(unsafe_code, reason = "a list of pointers to constants")]
unsafe impl Sync for HelpText {}

/// `aba-lock doctor` finds the version in the file by the words before it.
const PURPOSE: &str =
    concat!("Acquires a lock for aba-lock.bash version ", env!("CARGO_PKG_VERSION"), ", which alone calls this.\0");

static HELP: HelpText = HelpText([PURPOSE.as_ptr().cast(), ptr::null()]);

/// The description of the builtin, which bash finds by its name, and writes to.
#[expect(unsafe_code, reason = "the name that bash looks up")]
// SAFETY: no other object has this name.
#[unsafe(no_mangle)]
static mut __aba_builtin_struct: BuiltinRecord = BuiltinRecord {
    name: c"__aba_builtin".as_ptr(),
    function: run,
    flags: bash::ENABLED,
    long_doc: (&raw const HELP.0).cast(),
    short_doc: c"__aba_builtin version|lock|unlock [ARG]...".as_ptr(),
    handle: ptr::null_mut(),
};

/// The entry point, which bash calls with the arguments.
extern "C" fn run(words: *const WordList) -> c_int {
    // The hook of the standard library would print a message.
    static QUIET: Once = Once::new();
    let done = panic::catch_unwind(|| {
        QUIET.call_once(|| panic::set_hook(Box::new(|_| {})));
        call::answer(&bash::read_words(words))
    });
    match done {
        Ok(status) => status.unwrap_or(REFUSED),
        Err(payload) => {
            // Its destructor could panic again.
            std::mem::forget(payload);
            REFUSED
        }
    }
}
