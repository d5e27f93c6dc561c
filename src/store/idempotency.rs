//! What is remembered of requests with an `Idempotency-Key`: that one is in flight, and afterwards its answer. Who may
//! ask for it is decided by the scope that a key is kept under: caller, route and key, and of these only a keyed hash.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::task::JoinHandle;

use super::StoreError;
use super::throttle::keyed;
use crate::model::identity::UserId;
use crate::model::reply::Reply;

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A proven user's.
    User(UserId),
    /// Where nobody is proven: one client address's, with what the service may tell apart those behind it by.
    Unproven {
        /// The client's address.
        address: IpAddr,
        /// Hash of the `Cookie` and `Authorization` of the request.
        credentials: [u8; 32],
    },
}

/// What a key stands for: the same text by another caller or on another route is another key. Not `Debug`: keys stay
/// out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyScope {
    /// Who sent it.
    pub caller: Caller,
    /// Name of the route.
    pub route: Arc<str>,
    /// The key, as sent.
    pub key: String,
}

/// What a scope is kept under: 256 bits that say nothing without the key.
pub type ScopeId = [u8; 32];

/// Turns scopes into [`ScopeId`]s: HMAC-SHA256 under a key of the deployment.
pub struct ScopeHasher(Hmac<Sha256>);

impl ScopeHasher {
    /// Under a key derived from a secret that all replicas have.
    pub fn derived(secret: &SecretString) -> ScopeHasher {
        let key = keyed(secret.expose_secret().as_bytes()).chain_update(b"ssm-gateway idempotency 1").finalize();
        ScopeHasher(keyed(&key.into_bytes()))
    }

    /// Under this key.
    pub fn under(key: [u8; 32]) -> ScopeHasher {
        ScopeHasher(keyed(&key))
    }

    /// What `scope` is kept under.
    pub fn of(&self, scope: &KeyScope) -> ScopeId {
        let caller = match scope.caller {
            Caller::User(UserId(user)) => [&b"u"[..], &user.to_be_bytes()].concat(),
            Caller::Unproven { address, credentials } => match address.to_canonical() {
                IpAddr::V4(v4) => [&b"4"[..], &v4.octets(), &credentials].concat(),
                IpAddr::V6(v6) => [&b"6"[..], &v6.octets(), &credentials].concat(),
            },
        };
        // The caller's length follows from its first byte and the route's is written down, so no two scopes are one text.
        let length = u32::try_from(scope.route.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mac = self.0.clone().chain_update(caller).chain_update(length);
        mac.chain_update(scope.route.as_bytes()).chain_update(scope.key.as_bytes()).finalize().into_bytes().into()
    }
}

/// SHA-256 over everything of a request that a repeat must have in common with it.
pub type Fingerprint = [u8; 32];

/// What is remembered of a request that was answered.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Of the request.
    pub fingerprint: Fingerprint,
    /// The answer; none when it was too long to keep.
    pub answer: Option<Reply>,
}

impl Kept {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let answer = self.answer.as_ref();
        answer.map_or(0, |reply| {
            let headers = reply.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_COST);
            headers.sum::<usize>() + reply.body.len()
        })
    }
}

/// Bytes that a header takes besides its text.
const HEADER_COST: usize = 64;

/// The right to say how a request ended, given to the one that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub(super) scope: ScopeId,
    pub(super) owner: u128,
}

/// What a key was when a request brought it.
#[derive(Debug)]
pub enum Begun {
    /// New: the request is in flight now.
    First(Ticket),
    /// Another request with it is in flight.
    InFlight,
    /// A request with it was answered.
    Kept(Arc<Kept>),
}

/// How a request ended.
#[derive(Debug)]
pub enum Ending {
    /// It was answered: from now on, and for this time, its repeats are.
    Keep(Kept, Duration),
    /// It failed: the key is new again.
    Free,
}

/// Keeps them. What it forgets before its time is a repeat that is carried out again, so it forgets only at its bounds.
#[async_trait]
pub trait IdempotencyStore: Send + Sync {
    /// Marks the key as in flight, unless it is known. The mark is lifted after `lease`, for the case that nobody says how
    /// the request ended: nobody knows, or the process that would is gone.
    ///
    /// # Errors
    /// When that cannot be decided now.
    async fn begin(&self, scope: &KeyScope, lease: Duration) -> Result<Begun, StoreError>;

    /// Says how the request ended. Never waits: what takes time goes on by itself, and whoever must know when it is done may
    /// await what comes back.
    fn end(&self, ticket: Ticket, ending: Ending) -> Option<JoinHandle<()>>;
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode, header};

    use super::*;

    pub(crate) fn scope(user: i64, route: &str, key: &str) -> KeyScope {
        KeyScope { caller: Caller::User(UserId(user)), route: route.into(), key: key.to_owned() }
    }

    /// An answer with a body of this many bytes.
    pub(crate) fn kept(length: usize) -> Kept {
        let headers = vec![
            (header::SET_COOKIE, HeaderValue::from_static("a=1")),
            (header::SET_COOKIE, HeaderValue::from_bytes(b"b=\xe9").unwrap()),
        ];
        let reply = Reply { status: StatusCode::CREATED, headers, body: Bytes::from(vec![7; length]) };
        Kept { fingerprint: [9; 32], answer: Some(reply) }
    }

    #[test]
    fn a_scope_is_the_caller_the_route_and_the_key() {
        let (ours, theirs) = (ScopeHasher::derived(&"one".into()), ScopeHasher::derived(&"two".into()));
        let one = ours.of(&scope(1, "r", "k"));
        assert_eq!(one, ours.of(&scope(1, "r", "k")));
        for other in [scope(2, "r", "k"), scope(1, "rk", ""), scope(1, "s", "k"), scope(1, "r", "K")] {
            assert_ne!(one, ours.of(&other));
        }
        assert_ne!(one, theirs.of(&scope(1, "r", "k")));
        let unproven = |address: &str, credentials: [u8; 32]| {
            let caller = Caller::Unproven { address: address.parse().unwrap(), credentials };
            ours.of(&KeyScope { caller, ..scope(1, "r", "k") })
        };
        let by_address = |address: &str| unproven(address, [0; 32]);
        assert_ne!(by_address("192.0.2.1"), unproven("192.0.2.1", [1; 32]));
        assert_eq!(by_address("192.0.2.1"), by_address("::ffff:192.0.2.1"));
        assert_ne!(by_address("192.0.2.1"), by_address("192.0.2.2"));
        assert_ne!(by_address("2001:db8::1"), by_address("2001:db8::2"));
    }
}
