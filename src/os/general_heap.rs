//! The allocator for all blocks that are not in the fixed area of `heap`: that of the C library, or with musl dlmalloc, because
//! the allocator of musl takes twice as many instructions.
//!
//! Dlmalloc is made for one thread. So threads take turns, but only in a process that has started a second thread. Most calls start
//! none, and two atomic operations for each block would take a tenth of the time of a long list.

#[cfg(target_env = "musl")]
pub(super) use dlmalloc_heap::{GeneralHeap, prepare_for_forks, prepare_for_threads, return_free_memory};
#[cfg(not(target_env = "musl"))]
pub(super) use std::alloc::System as GeneralHeap;

/// Makes the allocator safe for several threads. The allocator of the C library always is.
#[cfg(not(target_env = "musl"))]
pub(super) fn prepare_for_threads() {}

/// Makes the allocator safe for a process that is forked while it has several threads. That of the C library always is.
#[cfg(not(target_env = "musl"))]
pub(super) fn prepare_for_forks() {}

/// Gives free memory back to the kernel. The allocator of the C library does that by itself.
#[cfg(not(target_env = "musl"))]
pub(super) fn return_free_memory() {}

#[cfg(target_env = "musl")]
#[expect(unsafe_code, reason = "an allocator; each block has its reason")]
mod dlmalloc_heap {
    use dlmalloc::Dlmalloc;
    use std::alloc::{GlobalAlloc, Layout};
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// The blocks, and the mutex that gives threads their turn.
    struct Blocks(UnsafeCell<Dlmalloc>, UnsafeCell<libc::pthread_mutex_t>);

    // SAFETY: `with_blocks` gives access to one thread at a time, and the mutex is made for several.
    unsafe impl Sync for Blocks {}

    static BLOCKS: Blocks = Blocks(UnsafeCell::new(Dlmalloc::new()), UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

    /// True if this process may have several threads.
    static HAS_THREADS: AtomicBool = AtomicBool::new(false);

    /// True after [`prepare_for_forks`].
    static HAS_HANDLERS: AtomicBool = AtomicBool::new(false);

    /// Makes the allocator safe for several threads. Must be called before this process starts a second thread.
    pub(in super::super) fn prepare_for_threads() {
        // The start of a thread makes this visible to that thread.
        HAS_THREADS.store(true, Ordering::Relaxed);
    }

    /// Makes the allocator safe for a process that is forked while it has several threads. Must be called before a second thread
    /// allocates or frees memory.
    pub(in super::super) fn prepare_for_forks() {
        // A process that is forked while another thread has its turn could otherwise never allocate.
        if !HAS_HANDLERS.swap(true, Ordering::Relaxed) {
            // SAFETY: the functions live forever. If memory is short, they are not called.
            unsafe { libc::pthread_atfork(Some(begin_turn), Some(end_turn), Some(end_turn)) };
        }
    }

    extern "C" fn begin_turn() {
        // SAFETY: the mutex is valid, and it is not locked by this thread.
        unsafe { libc::pthread_mutex_lock(BLOCKS.1.get()) };
    }

    extern "C" fn end_turn() {
        // SAFETY: this thread has locked the mutex, or its copy before the fork.
        unsafe { libc::pthread_mutex_unlock(BLOCKS.1.get()) };
    }

    #[inline]
    fn with_blocks<T>(work: impl FnOnce(&mut Dlmalloc) -> T) -> T {
        let has_threads = HAS_THREADS.load(Ordering::Relaxed);
        if has_threads {
            begin_turn();
        }
        // SAFETY: this is the only thread, or it has its turn, and `work` does not come back here.
        let done = work(unsafe { &mut *BLOCKS.0.get() });
        if has_threads {
            end_turn();
        }
        done
    }

    /// Gives free memory at the end of the heap back to the kernel, for a process that will sleep for long.
    pub(in super::super) fn return_free_memory() {
        // SAFETY: it only affects memory that no block uses.
        with_blocks(|blocks| unsafe { blocks.trim(0) });
    }

    /// The allocator: see the module above.
    pub(in super::super) struct GeneralHeap;

    // SAFETY: dlmalloc keeps the promises, and is used by one thread at a time.
    unsafe impl GlobalAlloc for GeneralHeap {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller keeps the same promises, as in the functions below.
            with_blocks(|blocks| unsafe { blocks.malloc(layout.size(), layout.align()) })
        }

        #[inline]
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: see above.
            with_blocks(|blocks| unsafe { blocks.calloc(layout.size(), layout.align()) })
        }

        #[inline]
        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: see above.
            with_blocks(|blocks| unsafe { blocks.free(block, layout.size(), layout.align()) });
        }

        #[inline]
        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: see above.
            with_blocks(|blocks| unsafe { blocks.realloc(block, layout.size(), layout.align(), new_size) })
        }
    }
}
