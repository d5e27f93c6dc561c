//! One GET over Pingora's connector, for probes and for calls of our own. Knows nothing about pools.

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Uri, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr as _, Result};

use super::outcome::{FailureKind, Observed};

/// What to ask for.
pub(super) struct Get<'a> {
    pub(super) peer: &'a HttpPeer,
    pub(super) host: &'a HeaderValue,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(HeaderName, HeaderValue)],
    /// The body is not read past this many bytes.
    pub(super) max_body: usize,
}

/// The answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) retry_after: Option<HeaderValue>,
    /// `None` when it is longer than asked for.
    pub(super) body: Option<Bytes>,
}

impl Get<'_> {
    /// Asks over a pooled connection, and gives it back. A pooled connection that turns out to be dead before a
    /// byte of the answer is replaced: the target closed it while idle, which says nothing about its health.
    pub(super) async fn pooled(&self, connector: &Connector) -> Result<Answer> {
        loop {
            let (mut session, reused) = connector.get_http_session(self.peer).await?;
            let head = match self.head(&mut session).await {
                Ok(head) => head,
                Err(error) if reused && died(&error) => continue,
                Err(error) => return Err(error),
            };
            let answer = self.body(&mut session, head).await?;
            if answer.body.is_some() {
                connector.release_http_session(session, self.peer, self.peer.options.idle_timeout).await;
            }
            return Ok(answer);
        }
    }

    /// Asks over a connection that is not given back, and so closed. It is a new one as long as no other call with
    /// the peer's `group_key` gives any back.
    pub(super) async fn once(&self, connector: &Connector) -> Result<Answer> {
        let (mut session, _) = connector.get_http_session(self.peer).await?;
        let head = self.head(&mut session).await?;
        self.body(&mut session, head).await
    }

    async fn head(&self, session: &mut HttpSession) -> Result<Answer> {
        session.set_read_timeout(self.peer.options.read_timeout);
        session.set_write_timeout(self.peer.options.write_timeout);
        let http2 = matches!(session, HttpSession::H2(_));
        session.write_request_header(Box::new(self.request(http2)?)).await?;
        session.finish_request_body().await?;
        loop {
            session.read_response_header().await?;
            // Interim answers (1xx) come before the real one, RFC 9110 section 15.2. In HTTP/2 the library keeps them
            // to itself, and asking it twice would panic.
            let head = session.response_header();
            if let Some(head) = head.filter(|head| http2 || !head.status.is_informational()) {
                let header = |name| head.headers.get(name).cloned();
                return Ok(Answer {
                    status: head.status.as_u16(),
                    content_type: header(header::CONTENT_TYPE),
                    retry_after: header(header::RETRY_AFTER),
                    body: None,
                });
            }
        }
    }

    /// In HTTP/2 a request names its host in the target, and nothing about the connection (RFC 9113 section 8.2.2).
    fn request(&self, http2: bool) -> Result<RequestHeader> {
        let mut request = RequestHeader::build(Method::GET, self.path.as_bytes(), Some(self.headers.len() + 1))?;
        if http2 {
            let scheme = if self.peer.is_tls() { "https" } else { "http" };
            let uri = Uri::builder().scheme(scheme).authority(self.host.as_bytes()).path_and_query(self.path);
            request.set_uri(uri.build().or_err(ErrorType::InvalidHTTPHeader, "target of a call")?);
        } else {
            request.insert_header(header::HOST, self.host)?;
        }
        for (name, value) in self.headers.iter().filter(|(name, _)| !http2 || *name != header::CONNECTION) {
            request.append_header(name, value)?;
        }
        Ok(request)
    }

    async fn body(&self, session: &mut HttpSession, head: Answer) -> Result<Answer> {
        let mut body = BytesMut::new();
        while let Some(chunk) = session.read_response_body().await? {
            if body.len().saturating_add(chunk.len()) > self.max_body {
                return Ok(head);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { body: Some(body.freeze()), ..head })
    }
}

fn died(error: &Error) -> bool {
    Observed::from_error(error) == Observed::Failure(FailureKind::Reset)
}
