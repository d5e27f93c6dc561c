//! Several upstream calls in parallel, merged into one JSON object.

use futures_util::future::join_all;
use http::StatusCode;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::Gateway;
use super::ctx::RequestCtx;
use super::{hash_key, headers};
use crate::config::spec::PartFailure;
use crate::model::rejection::Rejection;
use crate::model::reply::Reply;
use crate::snapshot::{Aggregate, Part};
use crate::upstream::fetch::{self, Call};

/// Most bytes of one part's answer.
const MAX_PART: usize = 1024 * 1024;

/// Asks every part at once and merges the answers.
pub(super) async fn collect(gateway: &Gateway, aggregate: &Aggregate, ctx: &RequestCtx) -> Result<Reply, Rejection> {
    let headers: Vec<(HeaderName, HeaderValue)> = headers::facts(ctx).collect();
    let calls = aggregate.parts.iter().map(|part| ask(gateway, part, &headers, ctx));
    let answers = join_all(calls).await;
    let mut merged = Map::new();
    let mut answered = 0;
    let mut last = None;
    for (part, answer) in aggregate.parts.iter().zip(answers) {
        let value = match answer {
            Ok(value) => {
                answered += 1;
                value
            }
            Err(rejection) if aggregate.on_failure == PartFailure::Fail => return Err(rejection),
            Err(rejection) => {
                let value =
                    json!({"error": true, "code": rejection.code(), "status_code": rejection.status().as_u16()});
                last = Some(rejection);
                value
            }
        };
        merged.insert(part.key.clone(), value);
    }
    match last {
        Some(rejection) if answered == 0 => Err(rejection),
        _ => Ok(Reply::json(StatusCode::OK, Value::Object(merged).to_string().into_bytes())),
    }
}

async fn ask(
    gateway: &Gateway,
    part: &Part,
    headers: &[(HeaderName, HeaderValue)],
    ctx: &RequestCtx,
) -> Result<Value, Rejection> {
    let retries = ctx.matched.as_ref().and_then(|matched| matched.route.retries);
    // The parts get none of the client's headers, so none of them can be the key.
    let key = part.pool.hash_key().map(|by| hash_key::key(by, &HeaderMap::new(), ctx));
    let call = Call { path: &part.path, headers, deadline: gateway.remaining(ctx), max_body: MAX_PART, retries, key };
    let fetched = fetch::get(&part.pool, &call, &gateway.clock).await?;
    let bad = || Rejection::BadGateway(part.pool.service().clone());
    if !(200..300).contains(&fetched.status) {
        return Err(bad());
    }
    serde_json::from_slice(&fetched.body).map_err(|_| bad())
}
