//! What SQLite offers and rusqlite does not wrap: the only unsafe code of this crate.
//!
//! The declarations are rusqlite's own, generated from the header of the SQLite that is compiled in.

#![allow(unsafe_code)]

pub(super) mod file;
pub(super) mod memory;
pub(super) mod preupdate;

use std::ffi::c_int;

use rusqlite::{Connection, ffi};

/// Whether foreign keys are violated that are only checked when the transaction ends.
pub(super) fn has_deferred_violations(conn: &Connection) -> bool {
    let (mut current, mut highest): (c_int, c_int) = (0, 0);
    // SAFETY: the handle is open for as long as `conn` is borrowed; both out-pointers are valid.
    let rc = unsafe {
        ffi::sqlite3_db_status(
            conn.handle(),
            ffi::SQLITE_DBSTATUS_DEFERRED_FKS,
            &raw mut current,
            &raw mut highest,
            0,
        )
    };
    debug_assert_eq!(rc, ffi::SQLITE_OK);
    rc != ffi::SQLITE_OK || current != 0
}

/// Forgets the rowid of the last insert, so that no transaction learns another's.
pub(super) fn clear_last_insert_rowid(conn: &Connection) {
    // SAFETY: the handle is open for as long as `conn` is borrowed.
    unsafe { ffi::sqlite3_set_last_insert_rowid(conn.handle(), 0) }
}
