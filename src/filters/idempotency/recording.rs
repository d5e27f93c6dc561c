//! The first request with its key, from the moment it goes on: a guard. Whatever happens to the request (the client left,
//! the upstream broke off, its task panicked), its key is not forgotten: when nothing can come of it any more, the key is
//! given back; when a target has the whole request and nobody knows what it makes of it, the key stays in flight until
//! its lease ends, so that a repeat is not carried out beside it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::task::JoinHandle;

use super::{Payload, Policy, REPLAYED, is_kept};
use crate::model::reply::Reply;
use crate::store::{Ending, Fingerprint, Kept, Ticket};
use crate::telemetry::metrics::IdempotencyResult;

/// Work of the store that goes on by itself, to be awaited by whoever wants it done.
pub type Settling = Option<JoinHandle<()>>;

/// One request that is carried out. When it is dropped before its answer was whole, the key is given back, or left to its lease.
pub struct Recording {
    policy: Arc<Policy>,
    /// Gone once the end was said.
    ticket: Option<Ticket>,
    payload: Payload,
    /// Of the whole request, once its body has passed.
    fingerprint: Option<Fingerprint>,
    /// Whether the target of this try has the whole request, and may be at work on it.
    sent: bool,
    /// Whether one of an earlier try may be.
    unknown: bool,
    answer: Answer,
    answer_ended: bool,
}

/// What was seen of the answer.
enum Answer {
    /// Nothing yet.
    Awaited,
    /// Its status is a failure.
    Failure,
    /// It is being collected.
    Collected { status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: Vec<u8>, room: usize },
    /// It is longer than may be kept.
    TooLong,
}

impl Recording {
    pub(super) fn new(policy: Arc<Policy>, ticket: Ticket, payload: Payload) -> Recording {
        let (answer, answer_ended) = (Answer::Awaited, false);
        let (fingerprint, sent, unknown) = (None, false, false);
        Recording { policy, ticket: Some(ticket), payload, fingerprint, sent, unknown, answer, answer_ended }
    }

    /// The request is sent, maybe again: its body passes from the start.
    pub fn restart(&mut self) {
        self.payload.restart();
        self.unknown |= self.at_work();
        self.sent = false;
        (self.fingerprint, self.answer, self.answer_ended) = (None, Answer::Awaited, false);
    }

    /// What became of this try is known: its target did not take the request, or answered it, if only to be tried again.
    pub fn resolved(&mut self) {
        self.sent = false;
    }

    /// A part of the request's body passes; with `last` nothing follows.
    pub fn request_body(&mut self, chunk: Option<&Bytes>, last: bool) -> Settling {
        if self.fingerprint.is_some() {
            return None;
        }
        if let Some(chunk) = chunk {
            self.payload.update(chunk);
        }
        if !last {
            return None;
        }
        self.fingerprint = Some(self.payload.fingerprint());
        self.sent = true;
        self.settle()
    }

    /// The answer's head, as its upstream gave it, without what concerns one connection only.
    pub fn answer_head(&mut self, status: StatusCode, headers: &HeaderMap) -> Settling {
        self.answer =
            if is_kept(status) { collected(status, headers, self.policy.max_answer) } else { Answer::Failure };
        // No body follows, so nobody will say that it has ended.
        let length = headers.get(CONTENT_LENGTH);
        let empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if empty || length.is_some_and(|length| length == "0") { self.answer_whole() } else { None }
    }

    /// A part of the answer's body; with `last` nothing follows.
    pub fn answer_body(&mut self, chunk: Option<&Bytes>, last: bool) -> Settling {
        let chunk = chunk.map(|bytes| &bytes[..]).unwrap_or_default();
        if let Answer::Collected { body, room, .. } = &mut self.answer {
            match room.checked_sub(chunk.len()) {
                Some(left) => {
                    *room = left;
                    body.extend_from_slice(chunk);
                }
                None => self.answer = Answer::TooLong,
            }
        }
        if last { self.answer_whole() } else { None }
    }

    /// The answer ended whole.
    pub fn answer_whole(&mut self) -> Settling {
        self.answer_ended = true;
        self.settle()
    }

    /// The request is over without an answer to keep: gives the key back, unless a target may be at work on it. Then the
    /// store lifts the mark with its lease.
    pub fn give_back(&mut self) -> Settling {
        let ticket = self.ticket.take()?;
        if self.unknown || self.at_work() {
            self.policy.metrics.count(IdempotencyResult::Unknown);
            return None;
        }
        self.policy.metrics.count(IdempotencyResult::Freed);
        self.policy.store.end(ticket, Ending::Free)
    }

    /// Whether this try's target has the whole request and did not say that it failed.
    fn at_work(&self) -> bool {
        self.sent && !matches!(self.answer, Answer::Failure)
    }

    /// Says the end when both sides have come to theirs: an answer that was faster than its request's body can only be
    /// compared when that has passed, too.
    fn settle(&mut self) -> Settling {
        let fingerprint = self.fingerprint.filter(|_| self.answer_ended)?;
        let (answer, result) = match std::mem::replace(&mut self.answer, Answer::Failure) {
            Answer::Awaited | Answer::Failure => return self.give_back(),
            Answer::TooLong => (None, IdempotencyResult::TooLong),
            Answer::Collected { status, headers, body, .. } => {
                // To the byte: what is kept for a day should not take the room that it grew in.
                let body = Bytes::from(body.into_boxed_slice());
                (Some(Reply { status, headers, body }), IdempotencyResult::Stored)
            }
        };
        let ticket = self.ticket.take()?;
        self.policy.metrics.count(result);
        self.policy.store.end(ticket, Ending::Keep(Kept { fingerprint, answer }, self.policy.ttl))
    }
}

/// The answer with the headers that go from end to end, as far as it fits.
fn collected(status: StatusCode, headers: &HeaderMap, most: usize) -> Answer {
    let framing = [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, REPLAYED];
    let kept = headers.iter().filter(|(name, _)| !framing.contains(name));
    let headers: Vec<_> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    match most.checked_sub(size) {
        Some(room) => Answer::Collected { status, headers, body: Vec::new(), room },
        None => Answer::TooLong,
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // What the store still has to do goes on by itself.
        let _ = self.give_back();
    }
}
