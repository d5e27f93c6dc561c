//! Whose bucket a request is counted in.

use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use crate::config::spec::{SubjectSpec, SubjectWord};
use crate::filters::Exchange;
use crate::limits::Subject;
use crate::model::identity::Credential;

/// What of a request says whose it is. Whatever is missing, there is always somebody: no request goes uncounted.
#[derive(Debug, Clone)]
pub(super) enum SubjectOf {
    Word(SubjectWord),
    Header(HeaderName),
}

impl SubjectOf {
    /// `None` when the header's name is none.
    pub(super) fn new(spec: &SubjectSpec) -> Option<SubjectOf> {
        match spec {
            SubjectSpec::Word(word) => Some(SubjectOf::Word(*word)),
            SubjectSpec::Header(by) => HeaderName::from_bytes(by.header.as_bytes()).ok().map(SubjectOf::Header),
        }
    }

    /// The subject of a request.
    pub(super) fn subject(&self, exchange: &Exchange<'_>) -> Subject {
        let identity = exchange.identity.as_ref();
        let address = || Subject::address(exchange.client.address);
        let user = || identity.map_or_else(address, |identity| Subject::User(identity.user));
        match self {
            SubjectOf::Word(SubjectWord::User) => user(),
            SubjectOf::Word(SubjectWord::ApiKey) => match identity.map(|identity| &identity.credential) {
                Some(Credential::ApiKey(key)) => Subject::ApiKey(*key),
                _ => user(),
            },
            SubjectOf::Word(SubjectWord::Role) => Subject::Role(identity.map(|identity| identity.role)),
            SubjectOf::Word(SubjectWord::Address) => address(),
            SubjectOf::Word(SubjectWord::Everyone) => Subject::Everyone,
            SubjectOf::Header(name) => header(&exchange.head.headers, name).unwrap_or_else(address),
        }
    }
}

/// All lines of the header in their order: a line more is another subject. Lines with nothing in them are none, and a
/// header without others counts as missing.
fn header(headers: &HeaderMap, name: &HeaderName) -> Option<Subject> {
    let mut lines = headers.get_all(name).iter().filter(|line| !line.is_empty()).peekable();
    lines.peek()?;
    let mut hash = Sha256::new();
    for line in lines {
        hash.update(u64::try_from(line.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(line.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.first_chunk().map(|first| Subject::Header(u64::from_be_bytes(*first)))
}
