//! How the C library's allocator serves the threads.

/// What is taken at the start and kept, in bytes, by pieces that are smaller than those it would get from mmap(2).
const RESERVE: usize = 256 << 10;
const PIECE: usize = 64 << 10;
/// More than this at the end of the heap is given back.
const SPARE: libc::c_int = 1 << 20;

/// One arena for all threads (mallopt(3)), and some memory in it for days to come, before any other thread is started. With
/// an arena for each, what one thread makes and another drops leaves holes in all of them: within ten minutes of 100 repairs a
/// second memory grew by 7 %, though as much was in use as ever. What was refused is done without.
pub fn prepare() {
    // SAFETY: mallopt takes two numbers, and sets one of the allocator's own before any other thread uses it.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, SPARE);
    }
    // Written, or they would not be there.
    let pieces: Vec<Vec<u8>> = (0..RESERVE / PIECE).map(|_| vec![1; PIECE]).collect();
    drop(std::hint::black_box(pieces));
}
