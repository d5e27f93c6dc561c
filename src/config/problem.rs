//! What is wrong with a configuration, for ops: where, what, and what to do about it.

use std::fmt;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, or `environment`.
    pub file: String,
    /// Path of the key (`routes[3].to.pool`) or name of the variable; empty for the file as a whole.
    pub path: String,
    /// Line, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean \"{suggestion}\"?"),
            None => Ok(()),
        }
    }
}

/// All problems of a configuration, one line each, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Just one problem, of a file as a whole.
    pub fn whole_file(file: &str, message: impl Into<String>) -> Problems {
        Problems(vec![Problem {
            file: file.to_owned(),
            path: String::new(),
            line: None,
            message: message.into(),
            suggestion: None,
        }])
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts them in the order of the file.
    pub fn sort(&mut self) {
        self.0.sort_by(|a, b| (a.line, &a.path).cmp(&(b.line, &b.path)));
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The known name that `name` was probably meant to be.
pub fn did_you_mean<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize, path: &str) -> Problem {
        Problem {
            file: "routes.yaml".into(),
            path: path.into(),
            line: Some(line),
            message: "no pool is named \"cv-parsr\"".into(),
            suggestion: Some("cv-parser".into()),
        }
    }

    #[test]
    fn problems_are_one_line_each_in_file_order() {
        let mut problems = Problems(vec![problem(42, "routes[3].to.pool"), problem(7, "routes[0].to.pool")]);
        problems.sort();
        assert_eq!(
            problems.to_string(),
            "routes.yaml:7: routes[0].to.pool: no pool is named \"cv-parsr\"; did you mean \"cv-parser\"?\n\
             routes.yaml:42: routes[3].to.pool: no pool is named \"cv-parsr\"; did you mean \"cv-parser\"?"
        );
    }

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["cv-parser", "job-parser", "matching"];
        assert_eq!(did_you_mean("cv-parsr", known).as_deref(), Some("cv-parser"));
        assert_eq!(did_you_mean("Matching", known).as_deref(), Some("matching"));
        assert_eq!(did_you_mean("billing", known), None);
    }
}
