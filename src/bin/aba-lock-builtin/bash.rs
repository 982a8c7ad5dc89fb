//! The types of bash that a loadable builtin uses, which have not changed since bash 3.2, and its functions.

#![expect(unsafe_code, reason = "reads what bash passes, and calls bash")]

use std::ffi::{CStr, c_char, c_int, c_void};

/// `BUILTIN_ENABLED` of bash.
pub(crate) const ENABLED: c_int = 1;

/// `struct builtin` of bash.
#[repr(C)]
pub(crate) struct BuiltinRecord {
    pub(crate) name: *const c_char,
    pub(crate) function: extern "C" fn(*const WordList) -> c_int,
    pub(crate) flags: c_int,
    pub(crate) long_doc: *const *const c_char,
    pub(crate) short_doc: *const c_char,
    pub(crate) handle: *mut c_char,
}

/// `WORD_LIST` of bash.
#[repr(C)]
pub(crate) struct WordList {
    next: *const WordList,
    word: *const Word,
}

/// `WORD_DESC` of bash.
#[repr(C)]
struct Word {
    text: *const c_char,
    flags: c_int,
}

// The code that unwinds the stack after a panic. The shared library with this code would take as long to load as the builtin.
#[cfg_attr(target_env = "gnu", link(name = "gcc_eh", kind = "static", modifiers = "-bundle"))]
unsafe extern "C" {
    /// `$$`, also in a subshell.
    static dollar_dollar_pid: libc::pid_t;
    /// Not 0 after `set -r`, or if bash was called as `rbash`.
    static restricted: c_int;
    /// Not 0 after `set -k`.
    static place_keywords_in_env: c_int;
    /// Returns the function of this name, or a null pointer.
    fn find_function(name: *const c_char) -> *const c_void;
    /// Returns the value of a variable, exported or not, or a null pointer.
    fn get_string_value(name: *const c_char) -> *const c_char;
}

/// The state of the shell that decides whether the builtin can be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShellState {
    /// The pid of the script. A subshell has another one.
    pub(crate) script: u32,
    pub(crate) is_restricted: bool,
    /// True if NAME=VALUE is not an argument but a variable, wherever it is in a command.
    pub(crate) takes_assignments: bool,
}

/// Returns the present state of the shell.
pub(crate) fn state() -> ShellState {
    // SAFETY: bash changes these variables only in its one thread, which runs this function.
    unsafe {
        ShellState {
            script: u32::try_from(dollar_dollar_pid).unwrap_or(0),
            is_restricted: restricted != 0,
            takes_assignments: place_keywords_in_env != 0,
        }
    }
}

/// Returns the value of a variable of the script, or an empty text if it is unset. `None` if the value is not UTF-8.
///
/// The value is valid until the end of the call of the builtin, because no variable changes during that time.
pub(crate) fn value<'a>(name: &CStr) -> Option<&'a str> {
    // SAFETY: a lookup in a table. The value ends in NUL.
    unsafe {
        let value = get_string_value(name.as_ptr());
        if value.is_null() { Some("") } else { CStr::from_ptr(value).to_str().ok() }
    }
}

/// Returns the arguments of a call. An argument that is not UTF-8 ends the list, which then is too short for any call.
pub(crate) fn read_words<'a>(first: *const WordList) -> Vec<&'a str> {
    let mut words = Vec::with_capacity(8);
    let mut next = first;
    while !next.is_null() {
        // SAFETY: bash passes a list of texts that ends in a null pointer, and frees it after the call.
        let text = unsafe {
            let entry = &*next;
            next = entry.next;
            CStr::from_ptr((*entry.word).text)
        };
        let Ok(word) = text.to_str() else { break };
        words.push(word);
    }
    words
}

/// Returns true if the script has defined a function of this name.
pub(crate) fn has_function(name: &CStr) -> bool {
    // SAFETY: a lookup in a table; bash does not keep the name.
    !unsafe { find_function(name.as_ptr()) }.is_null()
}
