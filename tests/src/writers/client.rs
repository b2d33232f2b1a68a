//! Rows through the client that applications in Rust have.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use quorate_io::client::{Client, Error};

use super::{Done, TEXT};

/// Lets so many writers share one client for so long, each writing the next row as soon as it has an
/// answer; `url` is that of the cluster, its database and a token. To be called on a host of the
/// laboratory ([`crate::Lab::inside`]).
///
/// # Panics
/// If the client does not find the cluster, or a write fails.
#[must_use]
pub fn run_client(url: &str, writers: usize, span: Duration, next: &mut u64) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = Client::connect(url).await.unwrap_or_else(|e| panic!("{url}: {e}"));
        let first = *next;
        let stride = u64::try_from(writers).expect("so many");
        let began = Instant::now();
        let write = async |writer: u64| -> Result<Vec<(Duration, u64)>, Error> {
            let mut done = Vec::new();
            let mut id = first + writer;
            while began.elapsed() < span {
                let sent = Instant::now();
                let params = (i64::try_from(id).expect("an id"), TEXT);
                let lsn = client.execute("INSERT INTO t VALUES (?, ?)", params).await?.lsn;
                done.push((sent.elapsed(), lsn));
                id += stride;
            }
            Ok(done)
        };
        let all = join_all((0..stride).map(write)).await;
        let took = began.elapsed();
        let mut done = Done { took, ..Done::default() };
        let mut most = 0;
        for written in all {
            let written = written.unwrap_or_else(|error| panic!("a write fails: {error}"));
            most = most.max(written.len());
            let entries: BTreeSet<u64> = written.iter().map(|(_, lsn)| *lsn).collect();
            done.entries.extend(entries);
            done.times.extend(written.into_iter().map(|(time, _)| time));
        }
        *next += stride * u64::try_from(most).expect("so many");
        done.times.sort_unstable();
        done
    })
}
