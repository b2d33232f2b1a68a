//! Where the entries of one log lie, in little memory: eight bytes an entry, and a little more for
//! each stretch of entries of one term that follow each other in one segment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_core::Term;
use quorate_core::raft::Index;

use super::item::Mark;
use super::state::Place;

/// Entries that follow each other, of one term and in one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stretch {
    segment: u64,
    term: Term,
    /// Offset and length of each. Segments are far below 4 GiB.
    slots: VecDeque<(u32, u32)>,
}

impl Stretch {
    fn place(&self, at: usize) -> Option<Place> {
        let (offset, len) = *self.slots.get(at)?;
        Some(Place { segment: self.segment, offset: u64::from(offset), len })
    }
}

/// Where the entries of one log lie, by index.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Entries {
    /// By the index of their first entry. They do not overlap, and none is empty.
    stretches: BTreeMap<u64, Stretch>,
    memberships: BTreeSet<Index>,
}

fn distance(from: u64, to: u64) -> usize {
    usize::try_from(to - from).unwrap_or(usize::MAX)
}

impl Entries {
    /// An entry is appended: all at and behind its index go.
    pub(super) fn append(&mut self, mark: Mark, place: Place) {
        self.truncate(mark.index);
        self.insert(mark, place);
    }

    /// An entry lies at another place, or is there again; all others stay.
    pub(super) fn set(&mut self, mark: Mark, place: Place) {
        let index = mark.index.0;
        let behind = self.cut(index + 1);
        self.cut(index);
        self.stretches.remove(&index);
        debug_assert!(!behind || self.stretches.contains_key(&(index + 1)));
        self.memberships.remove(&mark.index);
        self.insert(mark, place);
    }

    /// Puts an entry where none is.
    fn insert(&mut self, mark: Mark, place: Place) {
        let Ok(offset) = u32::try_from(place.offset) else {
            unreachable!("a segment of more than 4 GiB is never written")
        };
        let index = mark.index.0;
        if mark.membership {
            self.memberships.insert(mark.index);
        }
        if let Some((first, last)) = self.stretches.range_mut(..index).next_back() {
            let follows = *first + last.slots.len() as u64 == index;
            if follows && last.segment == place.segment && last.term == mark.term {
                last.slots.push_back((offset, place.len));
                return;
            }
        }
        let slots = VecDeque::from([(offset, place.len)]);
        let stretch = Stretch { segment: place.segment, term: mark.term, slots };
        self.stretches.insert(index, stretch);
    }

    /// Makes `index` the first of its stretch, if it is in one. Whether it is.
    fn cut(&mut self, index: u64) -> bool {
        let Some((first, stretch)) = self.stretches.range_mut(..index).next_back() else {
            return self.stretches.contains_key(&index);
        };
        let before = distance(*first, index);
        if before >= stretch.slots.len() {
            return self.stretches.contains_key(&index);
        }
        let slots = stretch.slots.split_off(before);
        let rest = Stretch { segment: stretch.segment, term: stretch.term, slots };
        self.stretches.insert(index, rest);
        true
    }

    /// Those at and behind `from` go.
    pub(super) fn truncate(&mut self, from: Index) {
        if self.last().is_none_or(|last| last < from) {
            return;
        }
        self.cut(from.0);
        self.stretches.split_off(&from.0);
        self.memberships.split_off(&from);
    }

    /// Those up to `index` go.
    pub(super) fn drop_to(&mut self, index: Index) {
        self.cut(index.0 + 1);
        self.stretches = self.stretches.split_off(&(index.0 + 1));
        self.memberships = self.memberships.split_off(&index.next());
        if let Some(mut first) = self.stretches.first_entry() {
            first.get_mut().slots.shrink_to_fit();
        }
    }

    /// Where the entry at `index` lies.
    pub(super) fn get(&self, index: Index) -> Option<Place> {
        let (first, stretch) = self.stretches.range(..=index.0).next_back()?;
        stretch.place(distance(*first, index.0))
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<Index> {
        let (first, stretch) = self.stretches.last_key_value()?;
        Some(Index(first + stretch.slots.len() as u64 - 1))
    }

    /// Those from `from` on, in order.
    pub(super) fn from(&self, from: Index) -> impl Iterator<Item = (Index, Place)> + '_ {
        let first = self.stretches.range(..=from.0).next_back().map_or(from.0, |(first, _)| *first);
        let all = self.stretches.range(first..).flat_map(|(first, stretch)| {
            let places = (0..stretch.slots.len()).filter_map(|at| stretch.place(at));
            (*first..).map(Index).zip(places)
        });
        all.skip_while(move |(index, _)| *index < from)
    }

    /// The last one of those that follow `base` without a gap; `base` if there is none.
    pub(super) fn last_after(&self, base: Index) -> Index {
        let mut next = base.next();
        for (first, stretch) in &self.stretches {
            if *first != next.0 {
                break;
            }
            next = Index(first + stretch.slots.len() as u64);
        }
        next.previous()
    }

    /// The first index of each run of entries of one term, and the term.
    pub(super) fn runs(&self) -> Vec<(Index, Term)> {
        let mut runs: Vec<(Index, Term)> = Vec::new();
        for (first, stretch) in &self.stretches {
            if runs.last().is_none_or(|(_, term)| *term != stretch.term) {
                runs.push((Index(*first), stretch.term));
            }
        }
        runs
    }

    /// Those that bring a membership in force.
    pub(super) fn memberships(&self) -> impl Iterator<Item = Index> + '_ {
        self.memberships.iter().copied()
    }

    /// How many bytes lie in which segment.
    pub(super) fn bytes_by_segment(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.stretches.values().map(|stretch| {
            (stretch.segment, stretch.slots.iter().map(|(_, len)| u64::from(*len)).sum())
        })
    }

    /// Those that lie in `segment`, in order.
    pub(super) fn in_segment(&self, segment: u64) -> impl Iterator<Item = (Mark, Place)> + '_ {
        let here = self.stretches.iter().filter(move |(_, stretch)| stretch.segment == segment);
        here.flat_map(|(first, stretch)| {
            let places = (0..stretch.slots.len()).filter_map(|at| stretch.place(at));
            (*first..).map(Index).zip(places).map(|(index, place)| {
                let membership = self.memberships.contains(&index);
                (Mark { index, term: stretch.term, membership }, place)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Append(u64, u64, u64),
        Set(u64, u64, u64),
        Truncate(u64),
        DropTo(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1..30u64, 1..3u64, 0..3u64).prop_map(|(i, s, t)| Step::Append(i, s, t)),
            2 => (1..30u64, 1..3u64, 0..3u64).prop_map(|(i, s, t)| Step::Set(i, s, t)),
            1 => (1..30u64).prop_map(Step::Truncate),
            1 => (0..30u64).prop_map(Step::DropTo),
        ]
    }

    type Model = BTreeMap<Index, (Mark, Place)>;

    fn check(entries: &Entries, model: &Model) {
        let all: Vec<(Index, Place)> = entries.from(Index::ZERO).collect();
        let expected: Vec<(Index, Place)> = model.iter().map(|(i, (_, p))| (*i, *p)).collect();
        assert_eq!(all, expected);
        assert_eq!(entries.last(), model.keys().next_back().copied());
        for index in (0..32).map(Index) {
            assert_eq!(entries.get(index), model.get(&index).map(|(_, place)| *place));
            let from: Vec<_> = entries.from(index).map(|(i, _)| i).collect();
            assert_eq!(from, model.range(index..).map(|(i, _)| *i).collect::<Vec<_>>());
            let mut last = index;
            while model.contains_key(&last.next()) {
                last = last.next();
            }
            if model.keys().all(|held| *held > index) {
                assert_eq!(entries.last_after(index), last);
            }
        }
        let memberships: Vec<Index> =
            model.values().filter(|(m, _)| m.membership).map(|(m, _)| m.index).collect();
        assert_eq!(entries.memberships().collect::<Vec<_>>(), memberships);
        for segment in 1..3 {
            let here: Vec<_> = entries.in_segment(segment).collect();
            let expected: Vec<_> =
                model.values().filter(|(_, p)| p.segment == segment).copied().collect();
            assert_eq!(here, expected);
            let bytes = entries.bytes_by_segment().filter(|(s, _)| *s == segment);
            let bytes: u64 = bytes.map(|(_, bytes)| bytes).sum();
            assert_eq!(bytes, expected.iter().map(|(_, p)| u64::from(p.len)).sum::<u64>());
        }
        let mut runs: Vec<(Index, Term)> = Vec::new();
        for (mark, _) in model.values() {
            if runs.last().is_none_or(|(_, term)| *term != mark.term) {
                runs.push((mark.index, mark.term));
            }
        }
        assert_eq!(entries.runs(), runs);
    }

    proptest! {
        #[test]
        fn it_is_a_map_in_less_memory(steps in prop::collection::vec(step(), 1..60)) {
            let (mut entries, mut model) = (Entries::default(), Model::new());
            for (at, step) in steps.into_iter().enumerate() {
                let of = |i: u64, segment: u64, term: u64| {
                    let membership = (i + term).is_multiple_of(4);
                    let len = u32::try_from(at).expect("few") + 1;
                    let mark = Mark { index: Index(i), term: Term(term), membership };
                    (mark, Place { segment, offset: at as u64 * 10, len })
                };
                match step {
                    Step::Append(i, s, t) => {
                        let (mark, place) = of(i, s, t);
                        entries.append(mark, place);
                        model.split_off(&mark.index);
                        model.insert(mark.index, (mark, place));
                    }
                    Step::Set(i, s, t) => {
                        let (mark, place) = of(i, s, t);
                        entries.set(mark, place);
                        model.insert(mark.index, (mark, place));
                    }
                    Step::Truncate(i) => {
                        entries.truncate(Index(i));
                        model.split_off(&Index(i));
                    }
                    Step::DropTo(i) => {
                        entries.drop_to(Index(i));
                        model = model.split_off(&Index(i + 1));
                    }
                }
                check(&entries, &model);
            }
        }
    }
}
