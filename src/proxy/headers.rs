//! Headers in both directions: identity in, the client's secrets out, nothing hop-by-hop across.
//!
//! Pingora's header types keep the case of every name in a second map, which makes each insertion cost about as much
//! as a token check. So heads are taken apart, edited as plain maps, and put together without that map: names go
//! out in lower case (RFC 9110 §5.1: case means nothing).

use http::header::{CONNECTION, HOST, LOCATION, UPGRADE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, http2, idempotency, internal, location, service};
use crate::model::cors::CorsVerdict;
use crate::model::forwarded::is_trusted;
use crate::model::identity::Identity;
use crate::model::rejection::Rejection;
use crate::snapshot::{Destination, Matched};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const X_USER_EMAIL: HeaderName = HeaderName::from_static("x-user-email");
const X_USER_ROLE: HeaderName = HeaderName::from_static("x-user-role");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_SSM_PATH: HeaderName = HeaderName::from_static("x-ssm-path");
const X_SSM_CODE: HeaderName = HeaderName::from_static("x-ssm-code");
const X_SSM_CLIENT: HeaderName = HeaderName::from_static("x-ssm-client");
const X_SSM_SESSION: HeaderName = HeaderName::from_static("x-ssm-session");

/// Headers by which the gateway speaks to upstreams, or that are the client's secret: dropped whoever sent them.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-user-")
        || name.starts_with("x-ssm-")
        || name.starts_with("x-forwarded-")
        || matches!(name, "authorization" | "x-api-key" | "forwarded" | "x-real-ip" | "x-request-id" | "traceparent")
        // Servers that follow CGI read `_` as `-` (RFC 3875 §4.1.18): `X_User_Role` would be believed.
        || name.contains('_')
}

/// What the gateway's own pages read of a client's headers, and what frames the body.
const FOR_PAGES: [&str; 10] = [
    "host",
    "accept",
    "accept-language",
    "accept-encoding",
    "user-agent",
    "content-type",
    "content-length",
    "transfer-encoding",
    "if-none-match",
    "connection",
];

/// Prepares the request for its upstream.
pub(super) fn towards_upstream(
    gateway: &Gateway,
    session: &Session,
    request: &mut RequestHeader,
    ctx: &RequestCtx,
) -> Result<()> {
    let matched = ctx.matched.as_ref().ok_or_else(|| internal("no route"))?;
    let sent = &session.req_header().uri;
    let path = ctx.path(sent.path());
    let blank = RequestHeader::build_no_case("GET", b"/", None)?;
    let mut parts: http::request::Parts = std::mem::replace(request, blank).into();
    let headers = &mut parts.headers;
    let trusted = ctx.peer.is_some_and(|peer| is_trusted(peer, &gateway.trusted_proxies));
    let forwarded_for = forwarded_for(ctx, headers, trusted);
    let forwarded_host = headers.get(X_FORWARDED_HOST).filter(|_| trusted).cloned();
    remove_all(headers, is_ours);
    http2::towards_upstream(parts.version, headers);
    if !ctx.trace.continued {
        headers.remove(TRACESTATE);
    }
    match &matched.route.destination {
        Destination::Pool { path: upstream, .. } => {
            parts.uri = upstream.uri(matched, path, sent.query()).ok_or_else(|| internal("upstream path"))?;
            let authority = ctx.attempt.as_ref().map(|attempt| attempt.target().authority().clone());
            let host = authority.and_then(|authority| headers.insert(HOST, authority));
            if let Some(host) = forwarded_host.or(host) {
                headers.insert(X_FORWARDED_HOST, host);
            }
        }
        Destination::Builtin { uri } => {
            // The page needs little, and its server takes few headers.
            remove_all(headers, |name| !FOR_PAGES.contains(&name));
            to_side_listener(headers, ctx, matched, path)?;
            parts.uri = with_query(uri, sent.query()).ok_or_else(|| internal("page path"))?;
        }
        Destination::Aggregate(_) => return Err(internal("an aggregate has no upstream of its own")),
    }
    if let Some(value) = forwarded_for {
        headers.insert(X_FORWARDED_FOR, value);
    }
    let scheme = if ctx.client.secure { "https" } else { "http" };
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    headers.extend(facts(ctx));
    *request = parts.into();
    Ok(())
}

/// A page's own path, with the client's query.
fn with_query(uri: &Uri, query: Option<&str>) -> Option<Uri> {
    match query {
        None => Some(uri.clone()),
        Some(query) => Uri::try_from(format!("{}?{query}", uri.path())).ok(),
    }
}

fn remove_all(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The facts that every upstream gets: request id, trace and, when proven, who asks.
pub(super) fn facts(ctx: &RequestCtx) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
    let identity = ctx.identity.as_ref().map(|identity| {
        [
            (X_USER_ID, HeaderValue::from(identity.user.0)),
            (X_USER_EMAIL, email(identity)),
            (X_USER_ROLE, HeaderValue::from_static(identity.role.as_str())),
        ]
    });
    let trace = ctx.trace.header().map(|value| (TRACEPARENT, value));
    [(X_REQUEST_ID, ctx.request_id.clone())].into_iter().chain(trace).chain(identity.into_iter().flatten())
}

fn email(identity: &Identity) -> HeaderValue {
    HeaderValue::from_bytes(identity.email.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}

/// What only the gateway's own pages may know.
fn to_side_listener(headers: &mut HeaderMap, ctx: &RequestCtx, matched: &Matched, path: &str) -> Result<()> {
    let text = |value: &str| HeaderValue::from_str(value).map_err(|_| internal("header value"));
    headers.insert(X_SSM_PATH, text(path)?);
    for (name, value) in &matched.params {
        let name = HeaderName::try_from(format!("x-ssm-param-{name}")).map_err(|_| internal("header name"))?;
        headers.insert(name, text(value)?);
    }
    headers.insert(X_SSM_CLIENT, text(&ctx.client.address.to_string())?);
    if let Some(session) = ctx.identity.as_ref().and_then(Identity::session) {
        headers.insert(X_SSM_SESSION, text(&session.to_string())?);
    }
    Ok(())
}

/// The chain of addresses for the upstream: what a trusted proxy said plus that proxy, else only the peer.
fn forwarded_for(ctx: &RequestCtx, headers: &HeaderMap, trusted: bool) -> Option<HeaderValue> {
    let peer = ctx.peer?;
    let mut chain = Vec::new();
    for line in headers.get_all(X_FORWARDED_FOR).iter().filter(|_| trusted) {
        chain.extend_from_slice(line.as_bytes()); // text or not: a line left out would have others believed
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.to_string().as_bytes());
    HeaderValue::from_bytes(&chain).ok()
}

/// Prepares an upstream's answer for the client.
pub(super) async fn towards_client(
    gateway: &Gateway,
    response: &mut ResponseHeader,
    ctx: &mut RequestCtx,
) -> Result<()> {
    let blank = ResponseHeader::build_no_case(StatusCode::OK, None)?;
    let mut parts: http::response::Parts = std::mem::replace(response, blank).into();
    let headers = &mut parts.headers;
    if service(ctx).is_none() {
        let code = headers.get(X_SSM_CODE).and_then(|code| code.to_str().ok());
        ctx.page_code = code.and_then(Rejection::known_code);
    }
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    drop_nominated(headers, switching);
    remove_all(headers, |name| stays_here(name) || (name == UPGRADE.as_str() && !switching));
    let target = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let public = target.and_then(|target| location::rewrite(target, ctx));
    if let Some(public) = public.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(LOCATION, public);
    }
    idempotency::answer_head(ctx, parts.status, headers).await;
    finish(gateway, parts.status, headers, ctx);
    *response = parts.into();
    Ok(())
}

/// Headers of an upstream's answer that concern one connection only (RFC 9110 §7.6.1), that the gateway alone may set,
/// or that tell strangers what runs inside. `Connection` itself is Pingora's to write.
fn stays_here(name: &str) -> bool {
    matches!(
        name,
        "keep-alive" | "proxy-connection" | "proxy-authenticate" | "trailer" | "via" | "server" | "x-powered-by"
    ) || name.starts_with("access-control-")
        || name.starts_with("x-ssm-")
        || name.starts_with("x-user-")
}

/// Drops what `Connection` names. A `101` keeps its `Upgrade`.
fn drop_nominated(headers: &mut HeaderMap, switching: bool) {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let nominated: Vec<HeaderName> = lines
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|name| !["close", "keep-alive", "content-length", "transfer-encoding"].contains(name))
        .filter_map(|name| HeaderName::try_from(name).ok())
        .filter(|name| !(switching && *name == UPGRADE))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

/// What every answer gets, ours and the upstreams': the filters' effects, CORS, id and time.
pub(super) fn finish(gateway: &Gateway, status: StatusCode, headers: &mut HeaderMap, ctx: &mut RequestCtx) {
    for (name, value) in ctx.edits.response.drain(..) {
        headers.insert(name, value);
    }
    for default in ctx.edits.response_default.drain(..) {
        if !default.success_only || status.is_success() {
            headers.entry(default.name).or_insert(default.value);
        }
    }
    headers.append(VARY, ctx.cors.vary());
    if let CorsVerdict::Allowed(allowed) | CorsVerdict::Preflight(allowed) = &mut ctx.cors {
        for (name, value) in allowed.drain(..) {
            headers.insert(name, value);
        }
    }
    headers.insert(X_REQUEST_ID, ctx.request_id.clone());
    let now = gateway.clock.now();
    ctx.first_byte = Some(now);
    let took = now.since(ctx.started);
    let seconds = format!("{}.{:03}", took.as_secs(), took.subsec_millis());
    if let Ok(seconds) = HeaderValue::try_from(seconds) {
        headers.insert(X_PROCESS_TIME, seconds);
    }
}
