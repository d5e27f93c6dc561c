//! The list of problems while it grows: finds each one's line, and leaves out what only follows from another.

use std::collections::HashSet;

use super::locate::Lines;
use super::problem::{Problem, Problems, did_you_mean};

/// Collects the problems of one file.
#[derive(Debug)]
pub struct Report {
    file: String,
    lines: Lines,
    repaired: HashSet<String>,
    above_repaired: HashSet<String>,
    problems: Vec<Problem>,
    more: usize,
}

/// Most problems told; of the others, only how many there are.
const MAX_PROBLEMS: usize = 100;

impl Report {
    /// An empty list for `file`.
    pub fn new(file: &str, lines: Lines) -> Report {
        Report {
            file: file.to_owned(),
            lines,
            repaired: HashSet::new(),
            above_repaired: HashSet::new(),
            problems: Vec::new(),
            more: 0,
        }
    }

    /// Adds a problem, unless a shape problem was found at, above or below `path`: then it may only follow from
    /// the value that stands in for the unreadable one.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        if !self.stands_in(&path) && !self.above_repaired.contains(&path) {
            self.push(path, message.into(), None);
        }
    }

    /// Adds that `name` is not among the known ones, unless the section that would define it could not be read.
    pub fn unknown<'k>(
        &mut self,
        path: impl Into<String>,
        (kind, section): (&str, &str),
        name: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        if self.stands_in(section) {
            return;
        }
        let before = self.problems.len();
        self.add(path, format!("no {kind} is named {name:?}"));
        if let Some(problem) = self.problems.get_mut(before) {
            problem.suggestion = did_you_mean(name, known);
        }
    }

    /// Adds a shape problem. What is at or below `path` from now on is a stand-in.
    pub(super) fn shape(&mut self, path: &str, message: String, suggestion: Option<String>) {
        if !self.stands_in(path) {
            self.push(path.to_owned(), message, suggestion);
        }
    }

    /// Adds a problem on a given line.
    pub(super) fn on_line(&mut self, path: &str, line: Option<usize>, message: String) {
        let before = self.problems.len();
        self.push(path.to_owned(), message, None);
        if let Some(problem) = self.problems.get_mut(before) {
            problem.line = line;
        }
    }

    /// Notes that the value at `path` is not what was written.
    pub(super) fn repaired(&mut self, path: String) {
        if !self.stands_in(&path) {
            self.above_repaired.extend(ancestors(&path).skip(1).map(str::to_owned));
            self.repaired.insert(path);
        }
    }

    fn stands_in(&self, path: &str) -> bool {
        ancestors(path).any(|ancestor| self.repaired.contains(ancestor))
    }

    fn push(&mut self, path: String, message: String, suggestion: Option<String>) {
        if self.problems.len() >= MAX_PROBLEMS {
            self.more += 1;
            return;
        }
        let line = self.lines.of(&path);
        let (path, message) = (shown(&path), shown(&message));
        self.problems.push(Problem { file: self.file.clone(), path, line, message, suggestion });
    }

    /// How many problems there are.
    pub fn len(&self) -> usize {
        self.problems.len() + self.more
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The line of a key, for messages about two places.
    pub fn line(&self, path: &str) -> Option<usize> {
        self.lines.of(path)
    }

    /// A list of its own for the same file: for warnings.
    pub(super) fn beside(&self) -> Report {
        Report::new(&self.file, self.lines.clone())
    }

    /// The problems, in the order of the file.
    pub fn finish(self) -> Problems {
        let mut problems = Problems(self.problems);
        problems.sort();
        if self.more > 0 {
            problems.0.append(&mut Problems::whole_file(&self.file, format!("{} more problems", self.more)).0);
        }
        problems
    }
}

/// A text on one line, and not too long of one: keys and values may hold anything.
fn shown(text: &str) -> String {
    const MOST: usize = 300;
    let mut line: String = text.chars().take(MOST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        line.push('…');
    }
    line
}

/// A path, and the paths of what it lies in, except the file as a whole.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.get(..path.rfind(['.', '['])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_repair_is_left_out() {
        let mut report = Report::new("f", Lines::default());
        report.shape("routes[1].to.pool", "expected text".into(), None);
        report.repaired("routes[1].to.pool".into());
        report.add("routes[1].to", "give one of…");
        report.add("routes[1].to.pool", "no pool…");
        report.add("routes[10].to", "give one of…");
        report.add("routes[1].name", "…");
        let paths: Vec<String> = report.finish().0.into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["routes[10].to", "routes[1].name", "routes[1].to.pool"]);
    }
}
