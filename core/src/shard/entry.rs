//! What an entry of a shard's log carries.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::restore::StageId;
use super::session::Records;
use super::verify::Mark;
use crate::ids::Term;

/// The effects of a batch of transactions.
const EFFECTS: u8 = 1;
/// A position at which copies are compared; no content. The mark's term and number follow, both in
/// eight bytes, the lowest first.
const MARK: u8 = 2;
/// The content is replaced by a staged file. The stage's term and number follow, as with a mark.
const RESTORE: u8 = 3;
/// As [`EFFECTS`], and behind the kind what sessions have to remember: its length in four bytes, the
/// lowest first, then that.
const SESSIONS: u8 = 4;

/// What an entry says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// The effects of a batch of transactions, and what sessions have to remember of it.
    Effects(Records, Bytes),
    /// A position at which copies are compared.
    Mark(Mark),
    /// The content becomes that of a staged file.
    Restore(StageId),
}

/// Wraps the effects of a batch for the log, and what sessions have to remember of it.
pub(super) fn encode(records: &Records, effects: &Bytes) -> Bytes {
    if records.is_empty() {
        let mut data = BytesMut::with_capacity(effects.len() + 1);
        data.put_u8(EFFECTS);
        data.put_slice(effects);
        return data.freeze();
    }
    let records = postcard::to_allocvec(records);
    let records = records.unwrap_or_else(|e| unreachable!("records always encode: {e}"));
    let length = u32::try_from(records.len());
    let length = length.unwrap_or_else(|_| unreachable!("the answers in an entry are bounded"));
    let mut data = BytesMut::with_capacity(effects.len() + records.len() + 5);
    data.put_u8(SESSIONS);
    data.put_u32_le(length);
    data.put_slice(&records);
    data.put_slice(effects);
    data.freeze()
}

/// What stands behind the kind of an entry of a batch in sessions.
fn sessions(data: &Bytes) -> Option<Content> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let records = rest.get(..length)?;
    let (records, behind) = postcard::take_from_bytes(records).ok()?;
    let all = behind.is_empty();
    all.then(|| Content::Effects(records, data.slice(4 + length..)))
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
        Some(&EFFECTS) => Some(Content::Effects(Records::default(), data.slice(1..))),
        Some(&SESSIONS) => sessions(&data.slice(1..)),
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

/// Whether an entry is only a position at which copies are compared: none comes to stand there.
#[must_use]
pub fn is_mark(data: &Bytes) -> bool {
    matches!(decode(data), Some(Content::Mark(_)))
}

/// The effects in an entry; `None` if it is a mark, replaces all content, or a later version made it.
#[must_use]
pub fn effects(data: &Bytes) -> Option<Bytes> {
    match decode(data)? {
        Content::Effects(_, effects) => Some(effects),
        Content::Mark(_) | Content::Restore(_) => None,
    }
}

/// What an entry says of sessions; `None` if it says nothing.
#[must_use]
pub fn records(data: &Bytes) -> Option<Records> {
    let says = data.first() == Some(&SESSIONS);
    match says.then(|| decode(data)).flatten()? {
        Content::Effects(records, _) => Some(records),
        Content::Mark(_) | Content::Restore(_) => None,
    }
}

/// The staged file that an entry makes the content, if it does.
#[must_use]
pub fn restores(data: &Bytes) -> Option<StageId> {
    match decode(data)? {
        Content::Restore(stage) => Some(stage),
        Content::Effects(..) | Content::Mark(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_what_was_put_in_and_one_of_a_later_version_says_nothing() {
        let bytes = Bytes::from_static(b"changes");
        let none = Records::default();
        assert_eq!(
            decode(&encode(&none, &bytes)),
            Some(Content::Effects(none.clone(), bytes.clone()))
        );
        let some = Records::opening(5, &[7, 8]);
        let with = encode(&some, &bytes);
        assert_eq!(decode(&with), Some(Content::Effects(some.clone(), bytes.clone())));
        assert_eq!(
            decode(&encode(&some, &Bytes::new())),
            Some(Content::Effects(some.clone(), Bytes::new()))
        );
        assert_eq!(records(&with), Some(some.clone()));
        assert_eq!(records(&encode(&none, &bytes)), None);
        assert_eq!(decode(&with.slice(..6)), None, "it is cut off");
        let put = Mark { term: Term(7), number: 1 << 40 };
        assert_eq!(decode(&mark(put)), Some(Content::Mark(put)));
        assert!(is_mark(&mark(put)) && !is_mark(&with));
        assert_eq!(effects(&mark(put)), None);
        let stage = StageId { term: Term(7), number: 3 };
        assert_eq!(decode(&restore(stage)), Some(Content::Restore(stage)));
        assert_eq!(effects(&restore(stage)), None);
        assert_eq!(restores(&restore(stage)), Some(stage));
        assert_eq!(restores(&mark(put)), None);
        let longer = [&mark(put)[..], &[0]].concat();
        for later in [vec![], vec![5, 1], vec![MARK, 1], vec![RESTORE, 1], longer] {
            assert_eq!(decode(&Bytes::from(later)), None);
        }
    }
}
