//! Lists that are shown page by page.

/// Some items of a list, in the order of their numbers.
#[derive(Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Number after which the next page begins; `None`: this is the last one.
    pub next: Option<i64>,
}

impl<T> Page<T> {
    /// How many items must be read for a page of `limit`: one more tells whether there is a next page.
    pub(super) fn to_read(limit: u32) -> u32 {
        limit.saturating_add(1)
    }

    /// The page of `limit` items from [`Page::to_read`] ones; `number` is what they are in the order of.
    pub(super) fn of(mut items: Vec<T>, limit: u32, number: impl Fn(&T) -> i64) -> Page<T> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        Page { next: items.last().filter(|_| more).map(number), items }
    }
}
