//! W3C Trace Context, level 1: one `traceparent` in, checked strictly, and one out with a new span.

use http::{HeaderMap, HeaderValue};

/// The trace a request belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    /// Whether the caller's header was valid, so that its `tracestate` may go on.
    pub continued: bool,
}

impl TraceParent {
    /// Goes on with the caller's trace, or starts one when there is none or it is malformed.
    ///
    /// The caller's `sampled` flag is not obeyed: strangers do not decide what we record.
    pub fn from_headers(headers: &HeaderMap, fresh: u128) -> TraceParent {
        let mut values = headers.get_all("traceparent").iter();
        let inbound = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(trace_id),
            _ => None,
        };
        let span = u64::try_from(fresh & u128::from(u64::MAX)).unwrap_or(1).max(1);
        TraceParent { trace: inbound.unwrap_or(fresh.max(1)), span, continued: inbound.is_some() }
    }

    /// The trace id, 32 hex digits.
    pub fn trace_id(&self) -> String {
        let mut text = [b'0'; 32];
        write_hex(&mut text, self.trace);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The header for the upstream.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(text.get_mut(3..35)?, self.trace);
        write_hex(text.get_mut(36..52)?, u128::from(self.span));
        HeaderValue::from_bytes(&text).ok()
    }
}

/// Writes the low digits of `value` over `digits`.
fn write_hex(digits: &mut [u8], mut value: u128) {
    for digit in digits.iter_mut().rev() {
        let nibble = (value & 15) as u8; // four bits fit
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) };
        value >>= 4;
    }
}

/// Reads version 00 of the header; anything else starts a new trace.
fn trace_id(text: &str) -> Option<u128> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if parts.next().is_some() || version != "00" || !hex(trace, 32) || !hex(parent, 16) || !hex(flags, 2) {
        return None;
    }
    if parent.bytes().all(|byte| byte == b'0') {
        return None;
    }
    u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> TraceParent {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_static(value));
        TraceParent::from_headers(&headers, 42)
    }

    #[test]
    fn a_valid_trace_goes_on_with_a_new_span() {
        let trace = read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert!(trace.continued);
        assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.header().unwrap(), "00-0af7651916cd43dd8448eb211c80319c-000000000000002a-00");
    }

    #[test]
    fn a_malformed_trace_is_replaced() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert!(!read(bad).continued, "{bad}");
        }
    }
}
