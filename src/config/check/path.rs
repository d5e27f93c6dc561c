//! Paths as routes write them: canonical, with `{name}` for whole segments.

/// The parameters of a path, or what is wrong with it.
pub(super) fn parameters(path: &str) -> Result<Vec<&str>, String> {
    let Some(rest) = path.strip_prefix('/') else { return Err("a path begins with `/`".to_owned()) };
    if let Some(wrong) = path.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '%' | '?' | '#' | '\\' | '*')) {
        let why = match wrong {
            '?' | '#' => "a path is matched without query and fragment",
            '%' => "a path is matched after decoding: write the character itself",
            '*' => "there are no wildcards: use `{name}` for one segment, or `prefix` for everything below a path",
            _ => "a path has visible ASCII characters only",
        };
        return Err(format!("{wrong:?} cannot stand in a path; {why}"));
    }
    let mut names = Vec::new();
    if rest.is_empty() {
        return Ok(names);
    }
    for segment in rest.strip_suffix('/').unwrap_or(rest).split('/') {
        match segment {
            "" => return Err("a path has no empty segments (`//`)".to_owned()),
            "." | ".." => return Err("a path has no dot segments".to_owned()),
            _ => {}
        }
        if !segment.contains(['{', '}']) {
            continue;
        }
        let name = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
        let starts = |name: &&str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let Some(name) = name.filter(starts).filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        else {
            return Err(format!(
                "{segment:?} is no parameter; write a whole segment `{{name}}`, letters, digits and `_`"
            ));
        };
        if names.contains(&name) {
            return Err(format!("the parameter {{{name}}} stands here twice"));
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_and_their_parameters() {
        for (path, expected) in [
            ("/", vec![]),
            ("/a", vec![]),
            ("/a/", vec![]),
            ("/a/{b}", vec!["b"]),
            ("/a/{b}/c/{d_1}/", vec!["b", "d_1"]),
        ] {
            assert_eq!(parameters(path), Ok(expected), "{path}");
        }
        for path in [
            "", "a", "//", "/a//b", "/a//", "/./a", "/a/..", "/a%20b", "/a?b", "/a#b", "/a b", "/é", "/a/*", "/{}",
            "/{a}b", "/{a", "/{1}", "/{a}/{a}", "/{*a}", "/a\\b",
        ] {
            assert!(parameters(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(path in ".{0,60}") {
            let _ = parameters(&path);
        }

        #[test]
        fn what_passes_can_join_a_table(path in "[/a{}*.:-]{0,12}") {
            use crate::model::route_table::{PathPattern, RouteTable};
            if parameters(&path).is_ok() {
                let mut table = RouteTable::default();
                prop_assert!(table.insert(&PathPattern::Path(path), &[http::Method::GET], &0).is_ok());
            }
        }
    }
}
