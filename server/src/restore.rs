//! `quorate restore`: a file becomes the content of a shard.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use quorate_core::configuration::MAIN;

use crate::cli::Restore;
use crate::client::Client;
use crate::databases::{named, pretty, print};
use crate::exit::Failure;
use crate::http::{DatabaseView, Restored};
use crate::terminal::{confirm, style};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// `quorate restore`.
pub(crate) fn restore(args: &Restore) -> Result<(), Failure> {
    let (database, in_name) = named(&args.database)?;
    let shard = in_name.unwrap_or(MAIN);
    let (file, bytes) = open(&args.file)?;
    let client = Client::find(&args.target)?;
    // What is misspelt is found out before the file is on its way.
    let view: DatabaseView = client.get(&format!("/db/{database}"))?;
    if !view.shards.contains_key(shard) {
        let problem = format!("the database '{database}' has no shard '{shard}'");
        return Err(Failure::Refused(problem));
    }
    if !args.yes {
        let question = format!(
            "all content of {database}/{shard} is replaced, on every server, by that of {}; what is \
             written until then goes with it. Do it?",
            args.file.display()
        );
        confirm(&question, "give --yes to replace all content")?;
    }
    let bar = bar(bytes);
    let path = format!("/db/{database}/restore?shard={shard}&timeout_ms={}", args.timeout * 1000);
    let mut body = bar.wrap_read(file);
    let done: Result<Restored, Failure> = client.upload(&path, &mut body);
    bar.finish_and_clear();
    let done = done.map_err(|failure| match failure {
        Failure::OutcomeUnknown(said) => Failure::OutcomeUnknown(format!(
            "{said}. Read the data to see whether it is the file's; `quorate verify {database}` says \
             whether all copies are the same"
        )),
        other => other,
    })?;
    if args.json {
        return print(&pretty(&done)?);
    }
    let Restored { shard, lsn, bytes } = done;
    print(&format!(
        "{database}/{shard} holds the {bytes} bytes of {} as of entry {lsn}. What it held before is in \
         backup/databases in the data directory of each server\n",
        args.file.display()
    ))
}

/// The file, as far as can be seen from its beginning and its neighbours.
fn open(path: &Path) -> Result<(File, u64), Failure> {
    let shown = path.display();
    let unread = |error: io::Error| Failure::Usage(format!("{shown} cannot be read: {error}"));
    let mut file = File::open(path).map_err(unread)?;
    let mut head = Vec::new();
    (&file).take(MAGIC.len() as u64).read_to_end(&mut head).map_err(unread)?;
    if head != MAGIC {
        return Err(Failure::Usage(format!("{shown} is no SQLite database: nothing was changed")));
    }
    for suffix in ["-wal", "-journal"] {
        let beside = PathBuf::from(format!("{shown}{suffix}"));
        if beside.metadata().is_ok_and(|found| found.len() > 0) {
            return Err(Failure::Usage(format!(
                "{} holds a part of {shown}: close the program that uses it, or copy it with \
                 sqlite3's `.backup`. Nothing was changed",
                beside.display()
            )));
        }
    }
    file.rewind().map_err(unread)?;
    let bytes = file.metadata().map_err(unread)?.len();
    Ok((file, bytes))
}

fn bar(bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes)
        .with_style(style("[{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {msg}"))
        .with_message("to this node, which checks it and gives it to the others");
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_database_or_only_a_part_of_one_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sqlite");
        assert!(matches!(open(&path), Err(Failure::Usage(why)) if why.contains("cannot be read")));
        std::fs::write(&path, "no").unwrap();
        assert!(matches!(open(&path), Err(Failure::Usage(why)) if why.contains("no SQLite")));
        std::fs::write(&path, [&MAGIC[..], &[0; 500]].concat()).unwrap();
        assert_eq!(open(&path).unwrap().1, 516);
        std::fs::write(dir.path().join("x.sqlite-wal"), "rest").unwrap();
        assert!(matches!(open(&path), Err(Failure::Usage(why)) if why.contains("x.sqlite-wal")));
    }
}
