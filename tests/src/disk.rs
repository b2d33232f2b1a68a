//! What the disk costs: the floor of every figure about writes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Appends 4 KiB to a file in the system's temporary directory and makes them durable with one
/// `fdatasync`, so many times, on so many threads at once with a file each: how long each took, in
/// order.
///
/// # Errors
/// A file cannot be written.
pub fn appends(count: usize, at_once: usize) -> io::Result<Vec<Duration>> {
    let dir = tempfile::tempdir()?;
    let files: Vec<_> = (0..at_once).map(|number| dir.path().join(number.to_string())).collect();
    let all: io::Result<Vec<Vec<Duration>>> = thread::scope(|scope| {
        let threads: Vec<_> =
            files.iter().map(|file| scope.spawn(move || append(file, count))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    });
    let mut times = all?.concat();
    times.sort_unstable();
    Ok(times)
}

fn append(file: &Path, count: usize) -> io::Result<Vec<Duration>> {
    let mut file = File::create(file)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        file.write_all(&[0x51; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}
