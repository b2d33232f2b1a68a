//! One change of a row, as effects carry it.

use rusqlite::types::ValueRef;

use crate::engine::effects::{self, Key};
use crate::engine::ffi::preupdate::{NoValue, RowChange};
use crate::engine::tables::Table;

pub(super) fn put_insert(
    out: &mut Vec<u8>,
    number: usize,
    row: &RowChange<'_>,
    table: &Table,
) -> Result<(), NoValue> {
    effects::put_insert(out, number, table.rowid.as_ref().map(|_| row.new_rowid));
    for column in &table.columns {
        effects::put_value(out, row.new_value(column.number)?);
    }
    Ok(())
}

pub(super) fn put_delete(
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    number: usize,
    row: &RowChange<'_>,
    table: &Table,
) -> Result<(), NoValue> {
    scratch.clear();
    for column in &table.columns {
        effects::put_check_value(scratch, row.old_value(column.number)?);
    }
    effects::put_delete(out, number, &key(row, table)?, crc32c::crc32c(scratch));
    scratch.clear();
    Ok(())
}

pub(super) fn put_update(
    out: &mut Vec<u8>,
    number: usize,
    row: &RowChange<'_>,
    table: &Table,
) -> Result<(), NoValue> {
    let mut old_row = Vec::with_capacity(64);
    let mut changed = Vec::new();
    for (place, column) in table.columns.iter().enumerate() {
        let (old, new) = (row.old_value(column.number)?, row.new_value(column.number)?);
        effects::put_check_value(&mut old_row, old);
        if !same(old, new) {
            changed.push((place, new));
        }
    }
    let rowid = (table.rowid.is_some() && row.old_rowid != row.new_rowid).then_some(row.new_rowid);
    if changed.is_empty() && rowid.is_none() {
        return Ok(());
    }
    let check = crc32c::crc32c(&old_row);
    effects::put_update(out, number, &key(row, table)?, check, rowid, changed.len());
    for (place, value) in changed {
        effects::put_number(out, place as u64);
        effects::put_value(out, value);
    }
    Ok(())
}

fn key<'a>(row: &RowChange<'a>, table: &Table) -> Result<Key<'a>, NoValue> {
    if table.rowid.is_some() {
        return Ok(Key::Rowid(row.old_rowid));
    }
    let values = table.key.iter().map(|place| row.old_value(table.columns[*place].number));
    Ok(Key::Columns(values.collect::<Result<_, _>>()?))
}

pub(super) fn encoded(value: ValueRef<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    effects::put_value(&mut bytes, value);
    bytes
}

/// Whether two values are the same to the bit.
fn same(a: ValueRef<'_>, b: ValueRef<'_>) -> bool {
    match (a, b) {
        (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}
