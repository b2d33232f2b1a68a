//! A limit on the memory that SQLite takes for one call, counted per thread.
//!
//! SQLite's own limit (`sqlite3_hard_heap_limit64`) is one for the whole process: one statement at
//! it would starve every other database of the node. Here SQLite's allocator is wrapped, and each
//! thread counts what it has taken less what it has given back. [`limited`] sets how much more
//! the thread may take; beyond it an allocation fails, and SQLite fails the statement with
//! `SQLITE_NOMEM`, as it would on a machine without memory. An engine runs each call on one
//! thread, so this is a limit on the call.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use rusqlite::ffi;

/// No limit: so much that counting up and down never reaches zero.
const UNLIMITED: i64 = i64::MAX / 2;

thread_local! {
    /// What this thread may still take.
    static LEFT: Cell<i64> = const { Cell::new(UNLIMITED) };
}

/// SQLite's own allocator, asked for before ours takes its place.
static BELOW: OnceLock<Methods> = OnceLock::new();

#[derive(Clone, Copy)]
struct Methods {
    malloc: unsafe extern "C" fn(c_int) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    realloc: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    size: unsafe extern "C" fn(*mut c_void) -> c_int,
}

/// Runs `work`, in which SQLite may take `bytes` more than it gives back.
pub(crate) fn limited<T>(bytes: u64, work: impl FnOnce() -> T) -> T {
    Allowance::new(bytes).limited(work)
}

/// Runs `work` with so much; what is left of it then.
fn limited_to<T>(bytes: i64, work: impl FnOnce() -> T) -> (T, i64) {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            LEFT.set(UNLIMITED);
        }
    }
    let _restore = Restore;
    LEFT.set(bytes);
    let result = work();
    (result, LEFT.get())
}

/// What SQLite may take in several calls together, on one thread.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: i64,
}

impl Allowance {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { left: i64::try_from(bytes).unwrap_or(UNLIMITED).min(UNLIMITED) }
    }

    /// Runs `work`, in which SQLite may take what is left.
    pub(crate) fn limited<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (result, left) = limited_to(self.left, work);
        self.left = left;
        result
    }

    /// Runs `work` without the limit. What it gives back may be taken again.
    pub(crate) fn unlimited<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (result, left) = limited_to(UNLIMITED, work);
        self.left += left - UNLIMITED;
        result
    }
}

/// Runs `work` without the limit: what must not fail, like undoing.
pub(crate) fn unlimited<T>(work: impl FnOnce() -> T) -> T {
    let before = LEFT.replace(UNLIMITED);
    let result = work();
    LEFT.set(before);
    result
}

/// Puts the counting allocator in place. Once a process, before SQLite is used for anything.
///
/// # Errors
/// SQLite was used before: then it has an allocator that nothing counts.
pub(crate) fn install() -> Result<(), &'static str> {
    static DONE: OnceLock<bool> = OnceLock::new();
    if *DONE.get_or_init(wrap) {
        Ok(())
    } else {
        Err("SQLite was used before its memory could be limited: open an engine first")
    }
}

fn wrap() -> bool {
    let mut below = ffi::sqlite3_mem_methods {
        xMalloc: None,
        xFree: None,
        xRealloc: None,
        xSize: None,
        xRoundup: None,
        xInit: None,
        xShutdown: None,
        pAppData: std::ptr::null_mut(),
    };
    // SAFETY: the option takes one pointer to such a structure and fills it. It fails, and does
    // nothing, if SQLite is initialised.
    if unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, &raw mut below) }
        != ffi::SQLITE_OK
    {
        return false;
    }
    let (Some(malloc), Some(free), Some(realloc), Some(size)) =
        (below.xMalloc, below.xFree, below.xRealloc, below.xSize)
    else {
        return false;
    };
    if BELOW.set(Methods { malloc, free, realloc, size }).is_err() {
        return false;
    }
    let ours = ffi::sqlite3_mem_methods {
        xMalloc: Some(counted_malloc),
        xFree: Some(counted_free),
        xRealloc: Some(counted_realloc),
        ..below
    };
    // SAFETY: SQLite copies the structure. Its functions are ours or its own, live as long as the
    // process, and ours keep the contract of those that they wrap.
    unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const ours) == ffi::SQLITE_OK }
}

unsafe extern "C" fn counted_malloc(bytes: c_int) -> *mut c_void {
    let (Some(below), true) = (BELOW.get(), i64::from(bytes) <= LEFT.get()) else {
        return std::ptr::null_mut();
    };
    // SAFETY: SQLite's own allocator, called as SQLite calls it.
    let memory = unsafe { (below.malloc)(bytes) };
    if !memory.is_null() {
        // SAFETY: `memory` has just come from that allocator.
        LEFT.set(LEFT.get() - i64::from(unsafe { (below.size)(memory) }));
    }
    memory
}

unsafe extern "C" fn counted_free(memory: *mut c_void) {
    if let Some(below) = BELOW.get() {
        // SAFETY: SQLite frees only what it got from here, which came from that allocator.
        LEFT.set(LEFT.get() + i64::from(unsafe { (below.size)(memory) }));
        // SAFETY: as above; it is not used again.
        unsafe { (below.free)(memory) }
    }
}

unsafe extern "C" fn counted_realloc(memory: *mut c_void, bytes: c_int) -> *mut c_void {
    let Some(below) = BELOW.get() else { return std::ptr::null_mut() };
    // SAFETY: SQLite reallocates only what it got from here.
    let before = i64::from(unsafe { (below.size)(memory) });
    if i64::from(bytes) - before > LEFT.get() {
        return std::ptr::null_mut();
    }
    // SAFETY: as above.
    let moved = unsafe { (below.realloc)(memory, bytes) };
    if !moved.is_null() {
        // SAFETY: `moved` has just come from that allocator.
        LEFT.set(LEFT.get() + before - i64::from(unsafe { (below.size)(moved) }));
    }
    moved
}
