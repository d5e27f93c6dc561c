//! Answers as bytes in Redis: fingerprint, whether there is an answer, status, headers with their lengths, body.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::model::reply::Reply;
use crate::store::{Fingerprint, Kept};

/// First byte of an answer; other forms would begin with another one.
pub(super) const MARK: u8 = b'K';
const ANSWERED: u8 = 1;
const TOO_LONG: u8 = 0;

/// As bytes.
pub(super) fn encode(kept: &Kept) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(kept.size() + 64);
    bytes.push(MARK);
    bytes.extend_from_slice(&kept.fingerprint);
    let Some(reply) = &kept.answer else {
        bytes.push(TOO_LONG);
        return bytes;
    };
    bytes.push(ANSWERED);
    bytes.extend_from_slice(&reply.status.as_u16().to_be_bytes());
    put_length(&mut bytes, reply.headers.len());
    for (name, value) in &reply.headers {
        for text in [name.as_str().as_bytes(), value.as_bytes()] {
            put_length(&mut bytes, text.len());
            bytes.extend_from_slice(text);
        }
    }
    bytes.extend_from_slice(&reply.body);
    bytes
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    // Headers are counted against the cap on answers, which is far below.
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

/// From bytes; none when they are not what [`encode`] makes.
pub(super) fn decode(bytes: Vec<u8>) -> Option<Kept> {
    let mut rest = Bytes::from(bytes);
    let [MARK] = take(&mut rest)? else { return None };
    let fingerprint: Fingerprint = take(&mut rest)?;
    match take(&mut rest)? {
        [TOO_LONG] if rest.is_empty() => return Some(Kept { fingerprint, answer: None }),
        [ANSWERED] => {}
        _ => return None,
    }
    let status = StatusCode::from_u16(u16::from_be_bytes(take(&mut rest)?)).ok()?;
    let mut headers = Vec::new();
    for _ in 0..take_length(&mut rest)? {
        let name = HeaderName::from_bytes(&take_text(&mut rest)?).ok()?;
        headers.push((name, HeaderValue::from_maybe_shared(take_text(&mut rest)?).ok()?));
    }
    Some(Kept { fingerprint, answer: Some(Reply { status, headers, body: rest }) })
}

fn take<const N: usize>(rest: &mut Bytes) -> Option<[u8; N]> {
    let taken = *rest.first_chunk()?;
    Some((taken, *rest = rest.slice(N..)).0)
}

fn take_length(rest: &mut Bytes) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(take(rest)?)).ok()
}

fn take_text(rest: &mut Bytes) -> Option<Bytes> {
    let length = take_length(rest)?;
    (length <= rest.len()).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::idempotency::tests::kept;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let original = kept(1_000);
        let copy = decode(encode(&original)).unwrap();
        let (one, two) = (original.answer.unwrap(), copy.answer.unwrap());
        assert_eq!(
            (original.fingerprint, one.status, one.headers, one.body),
            (copy.fingerprint, two.status, two.headers, two.body)
        );
        let none = Kept { fingerprint: [1; 32], answer: None };
        assert!(decode(encode(&none)).is_some_and(|copy| copy.answer.is_none() && copy.fingerprint == [1; 32]));
    }

    #[test]
    fn what_was_cut_is_refused() {
        let whole = encode(&kept(0));
        for length in 0..whole.len() {
            assert!(decode(whole[..length].to_vec()).is_none(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..96), marked: bool) {
            let mut bytes = bytes;
            if let (true, Some(first)) = (marked, bytes.first_mut()) {
                *first = MARK;
            }
            let _ = decode(bytes);
        }
    }
}
