//! What an entry of a shard's log carries.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::verify::Mark;
use crate::ids::Term;

/// The effects of a batch of transactions.
const EFFECTS: u8 = 1;
/// A position at which copies are compared; no content. The mark's term and number follow, both in
/// eight bytes, the lowest first.
const MARK: u8 = 2;

/// What an entry says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// The effects of a batch of transactions.
    Effects(Bytes),
    /// A position at which copies are compared.
    Mark(Mark),
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
    let mut data = BytesMut::with_capacity(17);
    data.put_u8(MARK);
    data.put_u64_le(mark.term.0);
    data.put_u64_le(mark.number);
    data.freeze()
}

/// What an entry says; `None` if a later version made it.
pub(super) fn decode(data: &Bytes) -> Option<Content> {
    match data.first() {
        Some(&EFFECTS) => Some(Content::Effects(data.slice(1..))),
        Some(&MARK) => {
            let rest: [u8; 16] = data.get(1..)?.try_into().ok()?;
            let (term, number) = rest.split_at(8);
            let number_of = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
            let (term, number) = (Term(number_of(term)?), number_of(number)?);
            Some(Content::Mark(Mark { term, number }))
        }
        _ => None,
    }
}

/// The effects in an entry, none if it has no content; `None` if a later version made it.
#[must_use]
pub fn effects(data: &Bytes) -> Option<Bytes> {
    Some(match decode(data)? {
        Content::Effects(effects) => effects,
        Content::Mark(_) => Bytes::new(),
    })
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
        let longer = [&mark(put)[..], &[0]].concat();
        for later in [vec![], vec![3, 1], vec![MARK, 1], longer] {
            assert_eq!(decode(&Bytes::from(later)), None);
        }
    }
}
