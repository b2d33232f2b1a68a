//! Reading the database file of a connection as it lies on the disk.
//!
//! Through SQLite's own descriptor: if a process closes any descriptor of a file, the system takes
//! away all locks that it has on the file, those of SQLite's connections too.

use std::ffi::{c_int, c_void};

use rusqlite::{Connection, ffi};

/// Fills `into` with the bytes of the file from `at` on; SQLite's code if it cannot.
pub(crate) fn read(conn: &Connection, at: u64, into: &mut [u8]) -> Result<(), c_int> {
    let offset = i64::try_from(at).map_err(|_| ffi::SQLITE_TOOBIG)?;
    let bytes = c_int::try_from(into.len()).map_err(|_| ffi::SQLITE_TOOBIG)?;
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the handle is open for as long as `conn` is borrowed; the option writes one pointer.
    let rc = unsafe {
        ffi::sqlite3_file_control(
            conn.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_FILE_POINTER,
            (&raw mut file).cast::<c_void>(),
        )
    };
    if rc != ffi::SQLITE_OK || file.is_null() {
        return Err(if rc == ffi::SQLITE_OK { ffi::SQLITE_ERROR } else { rc });
    }
    // SAFETY: the file is the connection's own and stays open with it; an open one has methods, and
    // one that is not open has none.
    let read = unsafe { (*file).pMethods.as_ref() }.and_then(|methods| methods.xRead);
    let read = read.ok_or(ffi::SQLITE_CANTOPEN)?;
    // SAFETY: the method of that file, which writes at most `bytes` bytes to where `into` lies. The
    // connection is not used by another thread meanwhile: it is not `Sync`.
    match unsafe { read(file, into.as_mut_ptr().cast::<c_void>(), bytes, offset) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(code),
    }
}
