use std::fs;
use std::path::Path;

use super::{Mark, take};

/// Whoever drops this has been to the state.
pub(crate) struct Reaches(pub Mark);

impl Drop for Reaches {
    fn drop(&mut self) {
        let reached = super::counts::REACHED.with(|reached| reached[self.0 as usize].get());
        // A test that fails already says more than this.
        assert!(reached > 0 || std::thread::panicking(), "{:?} was not reached", self.0);
    }
}

/// The names in `reaches!(…)` below a directory.
fn scripted(below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(below).expect("the sources are there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            scripted(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("it is text");
            for names in text.split("    reaches!(").skip(1).filter_map(|rest| rest.split_once(')'))
            {
                found.extend(names.0.split(',').map(|name| name.trim().to_owned()));
            }
        }
    }
}

#[test]
fn a_scripted_test_leads_to_each_mark() {
    let mut found = Vec::new();
    scripted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let missed: Vec<String> = Mark::ALL.iter().map(|(mark, _)| format!("{mark:?}")).collect();
    let missed: Vec<&String> = missed.iter().filter(|mark| !found.contains(mark)).collect();
    assert!(missed.is_empty(), "no test says that it reaches {missed:?}");
}

#[test]
fn names_are_different_and_counts_are_taken_once() {
    let mut names: Vec<&str> = Mark::ALL.iter().map(|(_, name)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Mark::ALL.len());
    super::sometimes!(LogCut);
    super::sometimes!(names.is_empty(), MembershipCut);
    let reached = |(_, count): &(&str, u64)| *count > 0;
    assert_eq!(take().into_iter().filter(reached).collect::<Vec<_>>(), [("log-cut", 1)]);
    assert_eq!(take().into_iter().filter(reached).count(), 0);
}
