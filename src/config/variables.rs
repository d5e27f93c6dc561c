//! Environment variables as typed values. A bad one is a problem that names the variable and never shows its value.

use std::time::Duration;

use super::env::Env;
use super::problem::Problem;

/// Reads variables and collects what is wrong with them.
pub(super) struct Variables<'e> {
    env: &'e Env,
    /// The problems so far.
    pub(super) problems: Vec<Problem>,
}

impl<'e> Variables<'e> {
    /// Nothing read yet.
    pub(super) fn new(env: &'e Env) -> Variables<'e> {
        Variables { env, problems: Vec::new() }
    }

    /// Notes a problem of a variable.
    pub(super) fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.problems.push(Problem {
            file: "environment".to_owned(),
            path: name.to_owned(),
            line: None,
            message: message.into(),
            suggestion: None,
        });
    }

    /// The text of a variable; an empty one counts as unset.
    pub(super) fn text(&self, name: &str) -> Option<&'e str> {
        self.env.get(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// A value that `read` understands.
    pub(super) fn read<T>(&mut self, name: &str, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = read(self.text(name)?);
        if value.is_none() {
            self.refuse(name, format!("expected {expected}"));
        }
        value
    }

    /// A truth value, in the spellings that the platform's other services take.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.read(name, "true or false", |text| match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    /// A whole number from 1 to `most`.
    pub(super) fn count(&mut self, name: &str, most: usize) -> Option<usize> {
        let fits = |number: &usize| (1..=most).contains(number);
        self.read(name, &format!("a whole number from 1 to {most}"), |text| text.parse().ok().filter(fits))
    }

    /// A span of `1..=most` units of `unit` each.
    pub(super) fn span(&mut self, name: &str, unit: Duration, most: u32) -> Option<Duration> {
        let count = self.count(name, usize::try_from(most).unwrap_or(usize::MAX))?;
        u32::try_from(count).ok().map(|count| unit * count)
    }
}
