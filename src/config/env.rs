//! The environment as a value: read once, then handed around. Substitutes `${NAME}` in text.
//!
//! Never prints a value: the environment holds secrets.

use std::collections::BTreeMap;
use std::fmt;

/// A snapshot of the environment variables.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Env").field(&format_args!("{} variables", self.0.len())).finish()
    }
}

/// A text after substitution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The result.
    pub text: String,
    /// The variables that had a part in it.
    pub names: Vec<String>,
    /// Whether the whole text was one `${…}`.
    pub whole: bool,
}

/// Why a text cannot be substituted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// These variables are unset (or empty) and have no default.
    #[error("{} {} not set and {} no default; set {}, or write ${{{}:-default}}",
        .0.join(", "), if .0.len() == 1 { "is" } else { "are" }, if .0.len() == 1 { "has" } else { "have" },
        if .0.len() == 1 { "it" } else { "them" }, .0.first().map_or("NAME", String::as_str))]
    Unset(Vec<String>),
    /// A `${` that does not go on as it should.
    #[error("expected ${{NAME}} or ${{NAME:-default}} after `$`; write `$$` for the character itself")]
    Malformed,
}

impl Env {
    /// The environment of the process. Variables that are not UTF-8 count as unset.
    pub fn system() -> Env {
        Env(std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect())
    }

    /// An environment made by hand.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Env {
        Env(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The same with some variables laid over it.
    pub fn with<N: Into<String>, V: Into<String>>(&self, pairs: impl IntoIterator<Item = (N, V)>) -> Env {
        let mut all = self.0.clone();
        all.extend(pairs.into_iter().map(|(name, value)| (name.into(), value.into())));
        Env(all)
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Substitutes `${NAME}` and `${NAME:-default}`; `$$` stands for `$`. A set but empty variable counts as unset
    /// for `:-`, as in the shell (POSIX.1-2017, 2.6.2), and stands for nothing in `${NAME}`.
    pub fn expand(&self, text: &str) -> Result<Expanded, ExpandError> {
        let mut out = String::with_capacity(text.len());
        let (mut names, mut unset) = (Vec::new(), Vec::new());
        let mut rest = text;
        let whole = text.starts_with("${") && text.find('}').is_some_and(|end| end + 1 == text.len());
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                tail
            } else if let Some(tail) = after.strip_prefix('{') {
                let (inner, tail) = tail.split_once('}').ok_or(ExpandError::Malformed)?;
                let (name, default) = expression(inner)?;
                match (self.get(name), default, self.0.contains_key(name)) {
                    (Some(value), _, _) => out.push_str(value),
                    (None, Some(default), _) => out.push_str(default),
                    (None, None, true) => {}
                    (None, None, false) => unset.push(name.to_owned()),
                }
                names.push(name.to_owned());
                tail
            } else {
                out.push('$');
                after
            };
        }
        out.push_str(rest);
        if unset.is_empty() { Ok(Expanded { text: out, names, whole }) } else { Err(ExpandError::Unset(unset)) }
    }
}

/// Splits `NAME` or `NAME:-default`.
fn expression(inner: &str) -> Result<(&str, Option<&str>), ExpandError> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let fits = starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !fits || default.is_some_and(|text| text.contains("${")) {
        return Err(ExpandError::Malformed);
    }
    Ok((name, default))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(input: &str) -> Result<String, ExpandError> {
        let env = Env::from_pairs([("A", "1"), ("EMPTY", ""), ("URL", "http://x:1,http://y:2")]);
        env.expand(input).map(|expanded| expanded.text)
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        for (input, expected) in [
            ("plain", "plain"),
            ("${A}", "1"),
            ("${A:-2}s", "1s"),
            ("${B:-2}s", "2s"),
            ("${EMPTY:-2}", "2"),
            ("a${EMPTY}b", "ab"),
            ("${B:-}", ""),
            ("${URL}", "http://x:1,http://y:2"),
            ("$$A ^x$", "$A ^x$"),
            ("$${A}", "${A}"),
            ("${A}${A}", "11"),
        ] {
            assert_eq!(text(input).as_deref(), Ok(expected), "{input}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_is_named() {
        assert_eq!(text("${B}${C}"), Err(ExpandError::Unset(vec!["B".into(), "C".into()])));
        for input in ["${", "${A", "${}", "${1A}", "${A-b}", "${A:-${B}}", "${ A }"] {
            assert_eq!(text(input), Err(ExpandError::Malformed), "{input}");
        }
        let message = text("${B}").unwrap_err().to_string();
        assert_eq!(message, "B is not set and has no default; set it, or write ${B:-default}");
    }

    #[test]
    fn only_one_expression_and_nothing_else_is_whole() {
        let whole = |input: &str| Env::default().expand(input).is_ok_and(|expanded| expanded.whole);
        assert!(whole("${B:-2}"));
        assert!(!whole("${B:-2}s") && !whole("${B:-2}${B:-2}") && !whole("2"));
    }

    #[test]
    fn values_stay_out_of_debug_output() {
        let shown = format!("{:?}", Env::from_pairs([("JWT_SECRET", "hunter2")]));
        assert!(!shown.contains("hunter2"));
    }

    proptest! {
        #[test]
        fn no_text_panics(input in ".*") {
            let _ = text(&input);
        }
    }
}
