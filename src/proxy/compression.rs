//! Compression of answers, by Pingora's module, under our rules.

use std::cmp::Reverse;

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use pingora::http::ResponseHeader;
use pingora::modules::http::HttpModules;
use pingora::modules::http::compression::{ResponseCompression, ResponseCompressionBuilder};
use pingora::protocols::http::compression::Algorithm;
use pingora_proxy::Session;

/// Answers smaller than this are not worth the work.
const MIN_BYTES: u64 = 1024;

/// Levels that cost little for what they save.
const LEVELS: [(Algorithm, u32); 3] = [(Algorithm::Gzip, 5), (Algorithm::Brotli, 4), (Algorithm::Zstd, 3)];

/// Adds the module, switched off until a request's route asks for it.
pub(super) fn install(modules: &mut HttpModules) {
    modules.add_module(ResponseCompressionBuilder::enable(0));
}

/// Switches it on for this request. Must run before the modules see the request.
pub(super) fn enable(session: &mut Session) {
    let wanted = session.req_header().headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).map(ranked);
    let Some(wanted) = wanted else { return };
    if wanted.is_empty() {
        return;
    }
    // The module takes the first coding it knows and does not read weights, so they are put in order for it.
    if session.req_header_mut().insert_header(ACCEPT_ENCODING, wanted).is_err() {
        return;
    }
    if let Some(module) = session.downstream_modules_ctx.get_mut::<ResponseCompression>() {
        for (algorithm, level) in LEVELS {
            module.adjust_algorithm_level(algorithm, level);
        }
    }
}

/// Switches it off again for answers that are too small. Must run before the modules see the answer.
pub(super) fn decide(session: &mut Session, response: &ResponseHeader) {
    let length =
        response.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if length.is_some_and(|length: u64| length < MIN_BYTES)
        && let Some(module) = session.downstream_modules_ctx.get_mut::<ResponseCompression>()
    {
        module.adjust_level(0);
    }
}

/// The codings that a client accepts, best first; those of weight 0 are left out (RFC 9110 §12.5.3).
fn ranked(header: &str) -> String {
    let mut codings: Vec<(&str, u16)> = header
        .split(',')
        .filter_map(|item| {
            let mut parts = item.split(';');
            let name = parts.next()?.trim();
            let weight = parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            let weight: f32 = weight.unwrap_or(0.0);
            // Thousandths are all the precision that the grammar allows.
            Some((name, (weight.clamp(0.0, 1.0) * 1000.0) as u16))
        })
        .filter(|(name, weight)| !name.is_empty() && *weight > 0)
        .collect();
    codings.sort_by_key(|(_, weight)| Reverse(*weight));
    codings.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::ranked;

    #[test]
    fn weights_become_an_order() {
        assert_eq!(ranked("gzip;q=0, br;q=0.5, zstd"), "zstd, br");
        assert_eq!(ranked("gzip, deflate, br"), "gzip, deflate, br");
        assert_eq!(ranked("gzip;q=0"), "");
        assert_eq!(ranked("gzip;q=x"), "");
    }
}
