//! Reading the query of a page: every parameter is known, given once, and a whole number; no value is repeated.

use std::ops::RangeInclusive;

use crate::model::rejection::{FieldProblem, Rejection};

/// The `after` and `limit` of a list in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageQuery {
    /// The number after which the page begins; default 0.
    pub(super) after: i64,
    /// Most items on it; default [`PageQuery::DEFAULT_LIMIT`].
    pub(super) limit: u32,
}

impl PageQuery {
    /// Items on a page when the client does not say.
    pub(super) const DEFAULT_LIMIT: u32 = 100;

    /// Most items that a client may ask for.
    pub(super) const MAX_LIMIT: u32 = 500;

    /// Reads a query; an empty one has the defaults.
    pub(super) fn parse(query: Option<&str>) -> Result<PageQuery, Rejection> {
        let (mut after, mut limit) = (None, None);
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "after" => number("after", value, &mut after, 0..=i64::MAX, "must be a whole number from 0")?,
                "limit" => {
                    let most = i64::from(PageQuery::MAX_LIMIT);
                    number("limit", value, &mut limit, 1..=most, "must be a whole number from 1 to 500")?;
                }
                _ => return Err(fault("query", "knows `after` and `limit` only")),
            }
        }
        let limit = limit.and_then(|limit| u32::try_from(limit).ok());
        Ok(PageQuery { after: after.unwrap_or(0), limit: limit.unwrap_or(PageQuery::DEFAULT_LIMIT) })
    }
}

fn number(
    name: &'static str,
    value: &str,
    into: &mut Option<i64>,
    range: RangeInclusive<i64>,
    problem: &'static str,
) -> Result<(), Rejection> {
    if into.is_some() {
        return Err(fault(name, "must be given once"));
    }
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| digits && range.contains(number));
    *into = Some(number.ok_or_else(|| fault(name, problem))?);
    Ok(())
}

fn fault(field: &'static str, problem: &'static str) -> Rejection {
    Rejection::Validation(vec![FieldProblem { field: field.into(), problem: problem.into() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_all_else_is_refused() {
        for query in [None, Some(""), Some("after=0&limit=100"), Some("limit=100&&after=0")] {
            assert_eq!(PageQuery::parse(query), Ok(PageQuery { after: 0, limit: 100 }), "{query:?}");
        }
        assert_eq!(PageQuery::parse(Some("after=7&limit=500")), Ok(PageQuery { after: 7, limit: 500 }));
        for bad in [
            "after",
            "after=",
            "after=-1",
            "after=+1",
            "after=x",
            "after=9223372036854775808",
            "limit=0",
            "limit=501",
            "limit=1e2",
            "limit=%31",
            "after=1&after=1",
            "page=2",
        ] {
            assert!(matches!(PageQuery::parse(Some(bad)), Err(Rejection::Validation(_))), "{bad}");
        }
    }
}
