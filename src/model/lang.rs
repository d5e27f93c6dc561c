//! The language of messages to clients: French, or English when the client prefers it.

/// A language we answer in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lang {
    /// The platform's language.
    #[default]
    Fr,
    /// For clients whose `Accept-Language` ranks English above French.
    En,
}

impl Lang {
    /// Reads `Accept-Language` (RFC 9110 §12.5.4). Absent, unreadable or undecided means French.
    pub fn from_accept_language(header: Option<&str>) -> Lang {
        let Some(header) = header else { return Lang::Fr };
        let mut best = (0.0_f32, Lang::Fr);
        for item in header.split(',') {
            let mut parts = item.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let quality = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0));
            let primary = tag.split('-').next().unwrap_or_default();
            let lang = if primary.eq_ignore_ascii_case("en") {
                Lang::En
            } else if primary.eq_ignore_ascii_case("fr") {
                Lang::Fr
            } else {
                continue;
            };
            if quality > best.0 {
                best = (quality, lang);
            }
        }
        best.1
    }

    /// The language tag for `Content-Language`.
    pub const fn tag(self) -> &'static str {
        match self {
            Lang::Fr => "fr",
            Lang::En => "en",
        }
    }
}

/// One text in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalText {
    /// French.
    pub fr: Box<str>,
    /// English.
    pub en: Box<str>,
}

impl LocalText {
    /// The text in `lang`.
    pub fn get(&self, lang: Lang) -> &str {
        match lang {
            Lang::Fr => &self.fr,
            Lang::En => &self.en,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_needs_a_preference() {
        for (header, expected) in [
            (None, Lang::Fr),
            (Some("en"), Lang::En),
            (Some("en-GB,en;q=0.9,fr;q=0.8"), Lang::En),
            (Some("fr-FR,fr;q=0.9,en;q=0.8"), Lang::Fr),
            (Some("de,en;q=0.3"), Lang::En),
            (Some("en;q=0"), Lang::Fr),
            (Some("en;q=x,*"), Lang::Fr),
            (Some(""), Lang::Fr),
        ] {
            assert_eq!(Lang::from_accept_language(header), expected, "{header:?}");
        }
    }
}
