//! What an entry of a shard's log carries.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::restore::StageId;
use super::verify::Mark;
use crate::ids::Term;

/// The effects of a batch of transactions.
const EFFECTS: u8 = 1;
/// A position at which copies are compared; no content. The mark's term and number follow, both in
/// eight bytes, the lowest first.
const MARK: u8 = 2;
/// The content is replaced by a staged file. The stage's term and number follow, as with a mark.
const RESTORE: u8 = 3;

/// What an entry says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// The effects of a batch of transactions.
    Effects(Bytes),
    /// A position at which copies are compared.
    Mark(Mark),
    /// The content becomes that of a staged file.
    Restore(StageId),
}

/// Wraps the effects of a batch for the log.
pub(super) fn encode(effects: &Bytes) -> Bytes {
    let mut data = BytesMut::with_capacity(effects.len() + 1);
    data.put_u8(EFFECTS);
    data.put_slice(effects);
    data.freeze()
}

/// A mark for the log.
pub(super) fn mark(mark: Mark) -> Bytes {
    named(MARK, mark.term, mark.number)
}

/// An entry that replaces the content by the staged file.
pub(super) fn restore(stage: StageId) -> Bytes {
    named(RESTORE, stage.term, stage.number)
}

fn named(kind: u8, term: Term, number: u64) -> Bytes {
    let mut data = BytesMut::with_capacity(17);
    data.put_u8(kind);
    data.put_u64_le(term.0);
    data.put_u64_le(number);
    data.freeze()
}

fn name(rest: &[u8]) -> Option<(Term, u64)> {
    let rest: [u8; 16] = rest.try_into().ok()?;
    let (term, number) = rest.split_at(8);
    let number_of = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    Some((Term(number_of(term)?), number_of(number)?))
}

/// What an entry says; `None` if a later version made it.
pub(super) fn decode(data: &Bytes) -> Option<Content> {
    match data.first() {
        Some(&EFFECTS) => Some(Content::Effects(data.slice(1..))),
        Some(&MARK) => {
            let (term, number) = name(data.get(1..)?)?;
            Some(Content::Mark(Mark { term, number }))
        }
        Some(&RESTORE) => {
            let (term, number) = name(data.get(1..)?)?;
            Some(Content::Restore(StageId { term, number }))
        }
        _ => None,
    }
}

/// The effects in an entry, none if it has no content; `None` if it replaces all content, or a later
/// version made it.
#[must_use]
pub fn effects(data: &Bytes) -> Option<Bytes> {
    match decode(data)? {
        Content::Effects(effects) => Some(effects),
        Content::Mark(_) => Some(Bytes::new()),
        Content::Restore(_) => None,
    }
}

/// The staged file that an entry makes the content, if it does.
#[must_use]
pub fn restores(data: &Bytes) -> Option<StageId> {
    match decode(data)? {
        Content::Restore(stage) => Some(stage),
        Content::Effects(_) | Content::Mark(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_was_put_in_and_one_of_a_later_version_says_nothing() {
        let bytes = Bytes::from_static(b"changes");
        assert_eq!(decode(&encode(&bytes)), Some(Content::Effects(bytes)));
        let put = Mark { term: Term(7), number: 1 << 40 };
        assert_eq!(decode(&mark(put)), Some(Content::Mark(put)));
        assert_eq!(effects(&mark(put)), Some(Bytes::new()));
        let stage = StageId { term: Term(7), number: 3 };
        assert_eq!(decode(&restore(stage)), Some(Content::Restore(stage)));
        assert_eq!(effects(&restore(stage)), None);
        assert_eq!(restores(&restore(stage)), Some(stage));
        assert_eq!(restores(&mark(put)), None);
        let longer = [&mark(put)[..], &[0]].concat();
        for later in [vec![], vec![4, 1], vec![MARK, 1], vec![RESTORE, 1], longer] {
            assert_eq!(decode(&Bytes::from(later)), None);
        }
    }
}
