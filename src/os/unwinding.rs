//! Replaces the functions that walk the stack. The helper has no tables for them, and a panic ends it.
//!
//! Without these, a panic would find no frames either, but the code that reads the tables and the debugging information would be a
//! twelfth of the helper. The standard library refers to all of them, and only `_Unwind_Backtrace` can be called: after a panic, if
//! `RUST_BACKTRACE` is set.

#![expect(unsafe_code, reason = "functions of the interface for unwinding, which do nothing")]

use std::ffi::c_void;

/// The code for the end of the stack.
const END_OF_STACK: i32 = 5;

/// Reports that there are no frames.
// SAFETY: no other function of this name is linked, because this one comes before that of the library.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_: *const c_void, _: *mut c_void) -> i32 {
    END_OF_STACK
}

/// Defines functions that are never called.
macro_rules! define_uncalled {
    ($($name:ident($($argument:ty),*) -> $result:ty = $value:expr;)*) => {
        $(
            // SAFETY: as above.
            #[unsafe(no_mangle)]
            extern "C" fn $name($(_: $argument),*) -> $result {
                $value
            }
        )*
    };
}

define_uncalled! {
    _Unwind_GetDataRelBase(*mut c_void) -> usize = 0;
    _Unwind_GetIP(*mut c_void) -> usize = 0;
    _Unwind_GetIPInfo(*mut c_void, *mut i32) -> usize = 0;
    _Unwind_GetLanguageSpecificData(*mut c_void) -> *mut c_void = std::ptr::null_mut();
    _Unwind_GetRegionStart(*mut c_void) -> usize = 0;
    _Unwind_GetTextRelBase(*mut c_void) -> usize = 0;
    _Unwind_Resume(*mut c_void) -> () = ();
    _Unwind_SetGR(*mut c_void, i32, usize) -> () = ();
    _Unwind_SetIP(*mut c_void, usize) -> () = ();
}
