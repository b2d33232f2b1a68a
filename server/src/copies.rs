//! `quorate sync` and `quorate backup`: whole copies, to this node and out of it.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar};
use quorate_core::SyncStart;

use crate::cli::{Backup, Sync};
use crate::client::Client;
use crate::databases::{named, pretty, print};
use crate::exit::Failure;
use crate::http::{CopyNews, DatabaseView, SyncBody, SyncNews};
use crate::terminal::style;
use crate::view::StatusView;

/// How the bar of a copy is written.
const FORM: &str = "{prefix} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {msg}";
/// How often progress is asked for.
const LOOK: Duration = Duration::from_millis(250);
/// So long a copy may do nothing before it is said that one waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// `quorate sync`.
pub(crate) fn sync(args: &Sync) -> Result<(), Failure> {
    let (database, in_name) = named(&args.database)?;
    let client = Client::find(&args.target)?;
    let shard = in_name.or(args.shard.as_deref()).map(str::to_owned);
    let body = SyncBody { shard, full: args.full, force: args.force };
    let begun: Vec<SyncNews> = client.post(&format!("/db/{database}/sync"), &body)?;
    if args.no_wait {
        return print(&if args.json { pretty(&begun)? } else { said(database, &begun) });
    }
    if !args.json {
        print(&said(database, &begun))?;
    }
    let awaited: Vec<&SyncNews> = begun.iter().filter(|news| is_awaited(news.start)).collect();
    let done = watch(&client, database, &awaited, args)?;
    if args.json { print(&pretty(&done)?) } else { Ok(()) }
}

fn is_awaited(start: SyncStart) -> bool {
    matches!(start, SyncStart::Full | SyncStart::Delta { .. } | SyncStart::Asked)
}

fn said(database: &str, begun: &[SyncNews]) -> String {
    let mut text = String::new();
    for SyncNews { shard, start } in begun {
        let how = match start {
            SyncStart::UpToDate => "is up to date (--full --force copies it all the same)".into(),
            SyncStart::Delta { from, to } => {
                format!("goes on from the log: {from} of {to} entries")
            }
            SyncStart::Full => "is copied whole from another server".to_owned(),
            SyncStart::Asked => "has been asked for: autoDeploy is off".to_owned(),
            SyncStart::NobodyElse => {
                "stays as it is: no other server in reach has a whole copy of it".to_owned()
            }
            SyncStart::Offline => "is OFFLINE: an operator has put it out of use".to_owned(),
            SyncStart::NotHere => "has no place on this server".to_owned(),
        };
        text += &format!("{database}/{shard} {how}\n");
    }
    text
}

/// Shows how far the copies are until all of them are whole and online.
fn watch(
    client: &Client,
    database: &str,
    awaited: &[&SyncNews],
    args: &Sync,
) -> Result<Vec<CopyNews>, Failure> {
    let me = client.get::<StatusView>("/status")?.name;
    let shown = MultiProgress::new();
    let bar = |shard: &str| {
        let bar = shown.add(ProgressBar::new(0).with_style(style(FORM)));
        bar.set_prefix(format!("{database}/{shard}"));
        bar
    };
    let bars: Vec<ProgressBar> = awaited.iter().map(|news| bar(&news.shard)).collect();
    let end = Instant::now() + Duration::from_secs(args.timeout);
    // Whoever asks at once may be told of the state before the order.
    let mut begun = vec![false; awaited.len()];
    let start = Instant::now();
    loop {
        let copies: Vec<CopyNews> = client.get(&format!("/db/{database}/copies"))?;
        let mut open = 0;
        for ((news, bar), begun) in awaited.iter().zip(&bars).zip(&mut begun) {
            let of = |copy: &&CopyNews| copy.server == me && copy.shard == news.shard;
            let Some(copy) = copies.iter().find(of) else { continue };
            let whole = copy.state == "whole" && copy.status == "ONLINE";
            *begun |= !whole || start.elapsed() >= Duration::from_secs(2);
            if whole && *begun {
                bar.set_style(style("{prefix} {msg}"));
                bar.finish_with_message(format!("whole and ONLINE at entry {}", copy.lsn));
                continue;
            }
            open += 1;
            show(bar, copy);
        }
        if open == 0 {
            let mine = |copy: &CopyNews| copy.server == me;
            return Ok(copies.into_iter().filter(mine).collect());
        }
        if Instant::now() >= end {
            bars.iter().for_each(ProgressBar::abandon);
            return Err(Failure::OutcomeUnknown(format!(
                "after {} seconds {open} of {} copies are not whole yet; the node goes on. See \
                 `quorate status`",
                args.timeout,
                awaited.len()
            )));
        }
        thread::sleep(LOOK);
    }
}

fn show(bar: &ProgressBar, copy: &CopyNews) {
    match (&copy.progress, &copy.lacks) {
        (Some(progress), _) if progress.total > 0 => {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            let left = progress.seconds_left.map(|s| format!(", {s} s left")).unwrap_or_default();
            bar.set_message(format!("from {}{left}", progress.donor));
        }
        (Some(progress), _) => {
            bar.set_message(format!("{} makes its copy ready", progress.donor));
        }
        (None, Some(why)) if bar.elapsed() >= PATIENCE => {
            bar.set_message(format!("waits for a server that can give a copy: {why}"));
        }
        _ => bar.set_message(format!("at entry {}", copy.lsn)),
    }
    bar.tick();
}

/// `quorate backup`.
pub(crate) fn backup(args: &Backup) -> Result<(), Failure> {
    let (database, in_name) = named(&args.database)?;
    let client = Client::find(&args.target)?;
    let shards: Vec<String> = match in_name {
        Some(shard) => vec![shard.to_owned()],
        None => {
            let view: DatabaseView = client.get(&format!("/db/{database}"))?;
            view.shards.into_keys().collect()
        }
    };
    // All names first: nothing is written if one of them is taken.
    let files: Vec<PathBuf> = match shards.as_slice() {
        [_] => vec![args.file.clone()],
        several => several.iter().map(|shard| beside(&args.file, shard)).collect(),
    };
    if let Some(taken) = files.iter().find(|file| file.exists()) {
        let taken = taken.display();
        return Err(Failure::Usage(format!("{taken} is there already: name another file")));
    }
    for (shard, file) in shards.iter().zip(&files) {
        let (lsn, bytes) = fetch(&client, database, shard, file)?;
        let file = file.display();
        println!("{database}/{shard} as of entry {lsn}: {bytes} bytes in {file}");
    }
    Ok(())
}

/// `demo.sqlite` of the shard `usa` is `demo-usa.sqlite`.
fn beside(file: &Path, shard: &str) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let end = file.extension().map(|end| format!(".{}", end.to_string_lossy()));
    file.with_file_name(format!("{stem}-{shard}{}", end.unwrap_or_default()))
}

/// Fetches one shard; the file gets its name when it is whole and durable.
fn fetch(client: &Client, database: &str, shard: &str, file: &Path) -> Result<(u64, u64), Failure> {
    let unfinished = file.with_extension("unfinished");
    let fetched = (|| {
        let (lsn, total, mut body) =
            client.download(&format!("/db/{database}/backup?shard={shard}"))?;
        let failed = |error: io::Error| {
            Failure::Refused(format!("{} cannot be written: {error}", unfinished.display()))
        };
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new(total).with_style(style(FORM))
        } else {
            ProgressBar::hidden()
        };
        let mut target = fs::File::create_new(&unfinished).map_err(failed)?;
        let bytes = io::copy(&mut bar.wrap_read(&mut body), &mut target).map_err(failed)?;
        bar.finish_and_clear();
        if bytes != total {
            let problem = format!("the copy ends after {bytes} of {total} bytes; nothing is kept");
            return Err(Failure::Refused(problem));
        }
        target.flush().and_then(|()| target.sync_all()).map_err(failed)?;
        fs::rename(&unfinished, file).map_err(failed)?;
        Ok((lsn, bytes))
    })();
    if fetched.is_err() {
        // What is not whole is worth nothing.
        let _ = fs::remove_file(&unfinished);
    }
    fetched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_shards_go_to_files_beside_each_other() {
        assert_eq!(beside(Path::new("a/demo.sqlite"), "usa"), Path::new("a/demo-usa.sqlite"));
        assert_eq!(beside(Path::new("demo"), "usa"), Path::new("demo-usa"));
    }
}
