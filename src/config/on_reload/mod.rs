//! What a reload (SIGHUP) does about each key of `routes.yaml` and `gateway.yaml`. A key that declares nothing does not
//! compile, or fails a test here.

mod routes;
mod settings;

pub use routes::ROUTES;
pub use settings::{SETTINGS, changed};

/// What a reload does about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReload {
    /// A section: its keys declare for themselves.
    Keys,
    /// In force with the swap of the table; nothing is remembered that it could lose.
    Swap,
    /// As [`OnReload::Swap`]; what is remembered stays, found again by this.
    Keeps(&'static str),
    /// Needs a restart or an upgrade; a reload says so when it has changed.
    Restart,
}

/// The keys of one section.
#[derive(Debug)]
pub struct Section {
    /// The type that has its shape.
    pub shape: &'static str,
    /// Where it is: `pools.NAME.health`, or nothing at the top.
    pub at: &'static str,
    /// Each key and what it declares.
    pub keys: &'static [(&'static str, OnReload)],
}

/// Makes a list of [`Section`]s of types; fields that are no keys stand in brackets. Taking each type apart, without `..`, is what makes a key that is missing here
/// an error of the compiler.
macro_rules! declare {
    ($(#[$doc:meta])* $name:ident:
        $($shape:ident at $at:literal $([$($other:ident),+])? { $($key:ident: $does:expr),+ $(,)? })+) => {
        $(#[$doc])*
        pub const $name: &[$crate::config::on_reload::Section] = &[$(
            $crate::config::on_reload::Section {
                shape: stringify!($shape),
                at: $at,
                keys: &[$((stringify!($key), $does)),+],
            }
        ),+];
        $(const _: fn(&$shape) = |shape| { let $shape { $($key: _,)+ $($($other: _),+)? } = shape; };)+
    };
}
use declare;

/// The declarations as aligned lines: key, and what a reload does.
pub fn describe(sections: &[Section]) -> String {
    let lines: Vec<(String, String)> = sections.iter().flat_map(lines).collect();
    let width = lines.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    lines.into_iter().map(|(key, does)| format!("{key:width$}  {does}\n")).collect()
}

fn lines(section: &Section) -> impl Iterator<Item = (String, String)> {
    let declared = section.keys.iter().filter_map(|(key, does)| {
        let does = match does {
            OnReload::Keys => return None,
            OnReload::Swap => "swap".to_owned(),
            OnReload::Keeps(by) => format!("swap; keeps {by}"),
            OnReload::Restart => "restart".to_owned(),
        };
        let key = key.trim_start_matches("r#");
        Some((if section.at.is_empty() { key.to_owned() } else { format!("{}.{key}", section.at) }, does))
    });
    declared.collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    fn declared(sections: &[Section]) -> BTreeMap<&str, BTreeSet<&str>> {
        let keys = |section: &Section| section.keys.iter().map(|(key, _)| key.trim_start_matches("r#")).collect();
        sections.iter().map(|section| (section.shape, keys(section))).collect()
    }

    /// The compiler sees to the keys of the types that are declared; this, to types that are not.
    #[test]
    fn every_key_of_the_schema_declares_what_a_reload_does() {
        let schema: Value = serde_json::from_str(&crate::config::schema::schema()).unwrap();
        let keys = |shape: &Value| Some(shape.get("properties")?.as_object()?.keys().cloned().collect::<BTreeSet<_>>());
        let mut shapes: BTreeMap<String, BTreeSet<String>> = schema["$defs"]
            .as_object()
            .unwrap()
            .iter()
            .filter_map(|(name, shape)| Some((name.clone(), keys(shape)?)))
            .collect();
        shapes.insert("RoutesSpec".to_owned(), keys(&schema).unwrap());
        let declared: BTreeMap<String, BTreeSet<String>> = declared(ROUTES)
            .into_iter()
            .map(|(shape, keys)| (shape.to_owned(), keys.into_iter().map(str::to_owned).collect()))
            .collect();
        for (shape, keys) in &shapes {
            let known = declared.get(shape).unwrap_or_else(|| panic!("{shape} is not declared in on_reload/routes.rs"));
            assert!(known == keys, "{shape}: {keys:?}, declared: {known:?}");
        }
    }

    #[test]
    fn every_key_of_the_settings_file_declares_what_a_reload_does() {
        let env = crate::config::env::Env::default();
        for section in SETTINGS.iter().filter(|section| section.at != "listen.tls") {
            let text = if section.at.is_empty() { "zz: 1".to_owned() } else { format!("{}: {{ zz: 1 }}", section.at) };
            let problems = crate::config::settings::Settings::parse("f", Some(&text), &env).unwrap_err().to_string();
            let known: BTreeSet<&str> =
                problems.split_once("known: ").unwrap().1.lines().next().unwrap().split(", ").collect();
            assert_eq!(declared(std::slice::from_ref(section))[section.shape], known, "{}", section.at);
        }
        let sections: BTreeSet<&str> = SETTINGS.iter().map(|section| section.at).collect();
        for (key, does) in SETTINGS[0].keys {
            assert_eq!(*does == OnReload::Keys, sections.contains(key), "{key}");
        }
    }

    #[test]
    fn the_declarations_are_printed_in_columns() {
        const SOME: &[Section] = &[
            Section { shape: "A", at: "", keys: &[("r#match", OnReload::Swap), ("pools", OnReload::Keys)] },
            Section {
                shape: "B",
                at: "pools.NAME",
                keys: &[("x", OnReload::Keeps("y by z")), ("w", OnReload::Restart)],
            },
        ];
        let expected = "match         swap\npools.NAME.x  swap; keeps y by z\npools.NAME.w  restart\n";
        assert_eq!(describe(SOME), expected);
        assert!(describe(ROUTES).lines().count() > 50 && describe(SETTINGS).lines().count() > 40);
    }
}
