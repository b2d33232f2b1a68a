//! The preupdate hook: SQLite tells of every row just before it changes it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ops::Deref;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ffi};

/// What is told of each row.
type Observer = Box<dyn FnMut(&RowChange<'_>) + Send>;

/// A connection whose row changes are observed.
pub(crate) struct Observed {
    conn: Connection,
    /// From `Box::into_raw`; SQLite holds it until the hook is taken away in `drop`.
    observer: *mut Observer,
}

// SAFETY: `Connection` is `Send`, and so is the observer, which only the connection's thread calls.
unsafe impl Send for Observed {}

impl Observed {
    /// Has `observer` told of each row that `conn` is about to change. It must change nothing
    /// through the connection.
    pub(crate) fn new(
        conn: Connection,
        observer: impl FnMut(&RowChange<'_>) + Send + 'static,
    ) -> Self {
        let observer: *mut Observer = Box::into_raw(Box::new(Box::new(observer)));
        // SAFETY: the handle is open; `observer` stays valid until `drop` has taken the hook away.
        unsafe {
            ffi::sqlite3_preupdate_hook(conn.handle(), Some(observed), observer.cast::<c_void>());
        }
        Self { conn, observer }
    }
}

impl Deref for Observed {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.conn
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        // SAFETY: the handle is open until `conn` is dropped, after this. Without the hook nothing
        // refers to the observer any more, which came from `Box::into_raw`.
        unsafe {
            ffi::sqlite3_preupdate_hook(self.conn.handle(), None, std::ptr::null_mut());
            drop(Box::from_raw(self.observer));
        }
    }
}

/// What is done to the row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// It comes to be.
    Insert,
    /// It gets other values, or another rowid.
    Update,
    /// It goes.
    Delete,
}

/// A row that is about to change; valid while the observer runs.
pub(crate) struct RowChange<'a> {
    db: *mut ffi::sqlite3,
    pub(crate) change: Change,
    pub(crate) table: &'a str,
    /// Before the change; meaningless for a table without rowids, and for an insert.
    pub(crate) old_rowid: i64,
    /// After the change; meaningless for a table without rowids, and for a delete.
    pub(crate) new_rowid: i64,
    _valid: PhantomData<&'a ()>,
}

/// A value cannot be had: there is no memory for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoValue;

impl<'a> RowChange<'a> {
    /// Whether the statement itself changes the row, and not a trigger or a foreign key.
    pub(crate) fn is_direct(&self) -> bool {
        // SAFETY: called while the hook runs, as it must be.
        unsafe { ffi::sqlite3_preupdate_depth(self.db) == 0 }
    }

    /// Whether a BLOB in the row is about to be written in place. SQLite calls this a delete, but the
    /// row stays; what it will hold cannot be asked for.
    pub(crate) fn is_blob_write(&self) -> bool {
        // SAFETY: called while the hook runs, as it must be.
        unsafe { ffi::sqlite3_preupdate_blobwrite(self.db) >= 0 }
    }

    /// A value of the row before an update or delete, by the number of the column in its table.
    pub(crate) fn old_value(&self, column: usize) -> Result<ValueRef<'a>, NoValue> {
        self.value(column, ffi::sqlite3_preupdate_old)
    }

    /// A value of the row after an update or insert, by the number of the column in its table.
    pub(crate) fn new_value(&self, column: usize) -> Result<ValueRef<'a>, NoValue> {
        self.value(column, ffi::sqlite3_preupdate_new)
    }

    /// The connection, to look at its schema.
    pub(crate) fn connection(&self) -> rusqlite::Result<Connection> {
        // SAFETY: the handle is open while the hook runs; the new value does not close it, and does
        // not outlive the call of the observer, to which `self` is only lent.
        unsafe { Connection::from_handle(self.db) }
    }

    fn value(
        &self,
        column: usize,
        read: unsafe extern "C" fn(*mut ffi::sqlite3, c_int, *mut *mut ffi::sqlite3_value) -> c_int,
    ) -> Result<ValueRef<'a>, NoValue> {
        let column = c_int::try_from(column).map_err(|_| NoValue)?;
        let mut value = std::ptr::null_mut();
        // SAFETY: called while the hook runs; SQLite checks `column`. Without memory it may answer
        // OK and leave the pointer as it was, so null is checked too.
        let rc = unsafe { read(self.db, column, &raw mut value) };
        if rc != ffi::SQLITE_OK || value.is_null() {
            return Err(NoValue);
        }
        // SAFETY: the value is SQLite's, protected, and stays until the hook returns. Its bytes are
        // read after its type and before its length, as SQLite asks for.
        unsafe {
            Ok(match ffi::sqlite3_value_type(value) {
                ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_value_int64(value)),
                ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_value_double(value)),
                ffi::SQLITE_TEXT => {
                    let text = ffi::sqlite3_value_text(value);
                    ValueRef::Text(bytes(text, ffi::sqlite3_value_bytes(value))?)
                }
                ffi::SQLITE_BLOB => {
                    let blob = ffi::sqlite3_value_blob(value);
                    ValueRef::Blob(bytes(blob.cast(), ffi::sqlite3_value_bytes(value))?)
                }
                _ => ValueRef::Null,
            })
        }
    }
}

/// # Safety
/// `start` is null or points to `length` bytes that stay for `'a`.
unsafe fn bytes<'a>(start: *const u8, length: c_int) -> Result<&'a [u8], NoValue> {
    let length = usize::try_from(length).map_err(|_| NoValue)?;
    if length == 0 {
        Ok(&[])
    } else if start.is_null() {
        Err(NoValue)
    } else {
        // SAFETY: as promised by the caller.
        Ok(unsafe { std::slice::from_raw_parts(start, length) })
    }
}

/// Called by SQLite. A panic in it ends the process: it must not unwind through C.
unsafe extern "C" fn observed(
    observer: *mut c_void,
    db: *mut ffi::sqlite3,
    op: c_int,
    _database: *const c_char,
    table: *const c_char,
    old_rowid: ffi::sqlite3_int64,
    new_rowid: ffi::sqlite3_int64,
) {
    let change = match op {
        ffi::SQLITE_INSERT => Change::Insert,
        ffi::SQLITE_UPDATE => Change::Update,
        _ => Change::Delete,
    };
    // SAFETY: SQLite hands over a C string that stays while the hook runs.
    let table = unsafe { CStr::from_ptr(table) }.to_str().unwrap_or_default();
    // SAFETY: the pointer that was given to `sqlite3_preupdate_hook`, valid until it is taken away.
    // The observer changes no row, so it is never called while it runs.
    let observer = unsafe { &mut *observer.cast::<Observer>() };
    observer(&RowChange { db, change, table, old_rowid, new_rowid, _valid: PhantomData });
}
