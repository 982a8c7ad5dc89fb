//! The allocator of the helper: small blocks from a fixed area first, and everything else from `general_heap`.
//!
//! Most calls end after about a hundred small allocations. For these, the C library takes longer than all other code of
//! such a call: it sets up its heap, asks the kernel for memory, and searches free lists. Here, an allocation moves the
//! end of the used part of the area. A block is only given back if it is the last one. So a call that runs long soon
//! uses up the area, and then gets all memory from the other allocator, which reuses it.

#![expect(unsafe_code, reason = "an allocator; each block has its reason")]

use super::general_heap::GeneralHeap;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The size of the area. It takes memory only for the pages that were used.
const AREA: usize = 32 * 1024;

/// The size of the largest block that is placed in the area, so that a few large buffers do not use it up.
const LARGEST: usize = 2048;

/// The largest alignment of the C library, and so of the area.
#[repr(align(16))]
struct Area(UnsafeCell<[u8; AREA]>);

// SAFETY: each byte belongs to one block at most, and only the owner of the block uses it.
unsafe impl Sync for Area {}

static SMALL: Area = Area(UnsafeCell::new([0; AREA]));

/// The number of bytes of the area that are in use.
static USED: AtomicUsize = AtomicUsize::new(0);

/// The allocator: see the module.
#[derive(Debug)]
pub struct Heap;

impl Heap {
    /// Places no more blocks in the area. A process that waits for long calls this: its search for deadlocks makes many short-lived
    /// blocks, which would use up the area, while the general heap reuses the memory.
    pub fn leave_area() {
        USED.store(AREA, Ordering::Relaxed);
    }

    /// The position of a block in the area. `None`: the block is from the general heap.
    fn position(block: *mut u8) -> Option<usize> {
        let position = (block as usize).wrapping_sub(SMALL.0.get() as usize);
        (position < AREA).then_some(position)
    }

    /// Places a block in the area. `None` if it is too large for the area, or if there is no space.
    fn place(layout: Layout) -> Option<*mut u8> {
        if layout.size() > LARGEST || layout.align() > align_of::<Area>() {
            return None;
        }
        let mut used = USED.load(Ordering::Relaxed);
        loop {
            // An alignment is a power of two. A division would take longer than all the rest.
            let start = (used + layout.align() - 1) & !(layout.align() - 1);
            let end = start + layout.size();
            if end > AREA {
                return None;
            }
            // Acquire: another thread may have given back this part of the area, and has written into it before.
            match USED.compare_exchange_weak(used, end, Ordering::Acquire, Ordering::Relaxed) {
                // SAFETY: `start` is in the area.
                Ok(_) => return Some(unsafe { SMALL.0.get().cast::<u8>().add(start) }),
                Err(now) => used = now,
            }
        }
    }

    /// Moves the end of the block, if it is the last one in the area.
    fn move_end(start: usize, old_size: usize, new_size: usize) -> bool {
        let end = start + new_size;
        end <= AREA && USED.compare_exchange(start + old_size, end, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

// SAFETY: a block in the area is in no other block, because `USED` only moves below its end when the last block is given
// back or made smaller. All other blocks are from the general heap.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same promises.
        Self::place(layout).unwrap_or_else(|| unsafe { GeneralHeap.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match Self::place(layout) {
            Some(block) => {
                // SAFETY: the block is new, and this long. (The area may have been used before.)
                unsafe { block.write_bytes(0, layout.size()) };
                block
            }
            // SAFETY: the caller keeps the same promises.
            None => unsafe { GeneralHeap.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Self::position(block) {
            Some(start) => {
                Self::move_end(start, layout.size(), 0);
            }
            // SAFETY: the block is from there.
            None => unsafe { GeneralHeap.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some(start) = Self::position(block) else {
            // SAFETY: the block is from there.
            return unsafe { GeneralHeap.realloc(block, layout, new_size) };
        };
        if (new_size <= LARGEST && Self::move_end(start, layout.size(), new_size)) || new_size <= layout.size() {
            return block;
        }
        // SAFETY: the caller promises that this size is valid; the blocks are not the same one, and both are at least as
        // long as the copied part, since the new one is longer.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size());
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::general_heap::prepare_for_threads;
    use super::*;
    use std::thread;

    /// Fills the block, and fails if another block changes it.
    fn use_block(seed: usize, size: usize) -> impl FnOnce() {
        let layout = Layout::from_size_align(size, 1 << (seed % 6)).unwrap();
        let mark = u8::try_from(seed % 251).unwrap();
        // SAFETY: the sizes are not 0, and each block is given back once, with its last size.
        unsafe {
            let block = Heap.alloc(layout);
            assert_eq!(block as usize % layout.align(), 0);
            block.write_bytes(mark, size);
            let new_size = 1 + (size * 7 + seed) % 3000;
            let block = Heap.realloc(block, layout, new_size);
            let block_at = block as usize;
            move || {
                let block = block_at as *mut u8;
                for at in 0..size.min(new_size) {
                    assert_eq!(*block.add(at), mark, "byte {at} of a block of {size}, then {new_size}");
                }
                Heap.dealloc(block, Layout::from_size_align_unchecked(new_size, layout.align()));
            }
        }
    }

    #[test]
    fn no_block_changes_another_one() {
        prepare_for_threads();
        thread::scope(|scope| {
            for thread in 0..4 {
                let work = move || {
                    for round in 0..300 {
                        let checks: Vec<_> =
                            (0..20).map(|at| use_block(thread * 7 + round * 13 + at, 1 + (round * at) % 500)).collect();
                        checks.into_iter().rev().for_each(|check| check());
                    }
                };
                thread::Builder::new().spawn_scoped(scope, work).unwrap();
            }
        });
    }

    #[test]
    fn a_zeroed_block_is_zero() {
        for size in [1, 100, LARGEST, LARGEST + 1] {
            let layout = Layout::from_size_align(size, 1).unwrap();
            // SAFETY: the sizes are not 0, and each block is given back once.
            unsafe {
                let block = Heap.alloc(layout);
                block.write_bytes(7, size);
                Heap.dealloc(block, layout);
                let block = Heap.alloc_zeroed(layout);
                assert!((0..size).all(|at| *block.add(at) == 0), "{size}");
                Heap.dealloc(block, layout);
            }
        }
    }
}
