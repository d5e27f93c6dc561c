//! The common passwords: a sorted list in the program, searched where it lies. Source and licence of the list:
//! `common_passwords.license.txt`.

/// One password per line, in the form of [`super::email::email_key`], in ascending order of bytes.
const COMMON: &str = include_str!("common_passwords.txt");

/// Most characters behind a common password that do not make it another: a year, `123!`.
const MAX_SUFFIX: usize = 4;

/// Whether a folded password is common, as it is or with up to four digits or signs behind it.
pub(super) fn is_common(folded: &str) -> bool {
    let stem = folded.trim_end_matches(|c: char| !c.is_alphabetic());
    let suffix = folded.chars().count().saturating_sub(stem.chars().count());
    contains(folded) || (1..=MAX_SUFFIX).contains(&suffix) && contains(stem)
}

/// Binary search over the bytes of the list: about 17 looks, nothing to build at the start.
fn contains(word: &str) -> bool {
    if word.is_empty() || word.contains('\n') {
        return false;
    }
    let list = COMMON.as_bytes();
    let (mut low, mut high) = (0, list.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let before = list.get(low..middle).unwrap_or_default();
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(low, |at| low + at + 1);
        let rest = list.get(start..).unwrap_or_default();
        let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
        match word.as_bytes().cmp(line) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => high = start,
            std::cmp::Ordering::Greater => low = start + line.len() + 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::email::email_key;
    use super::*;

    #[test]
    fn the_list_is_sorted_folded_and_found_word_by_word() {
        let words: Vec<&str> = COMMON.lines().collect();
        assert_eq!((words.len(), words.iter().filter(|word| word.chars().count() >= 10).count()), (18_085, 1_805));
        assert!(words.windows(2).all(|pair| pair[0].as_bytes() < pair[1].as_bytes()));
        for word in &words {
            assert!(word.chars().count() >= 6 && email_key(word) == *word && contains(word), "{word}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let all: HashSet<&str> = COMMON.lines().collect();
        for word in &all {
            for other in
                [format!("{word}\u{1}"), format!("\u{1}{word}"), word.chars().skip(1).collect(), format!("~{word}")]
            {
                assert_eq!(contains(&other), all.contains(other.as_str()), "{other:?}");
            }
        }
        for word in ["", "\n", "motdepasse\n", "\u{7f}", "zzzzzzzzzzzzzzzzzz~"] {
            assert!(!contains(word), "{word:?}");
        }
    }

    #[test]
    fn a_short_suffix_makes_no_other_password() {
        for common in
            ["motdepasse", "motdepasse1", "basketball", "sunshine2024", "password123!", "marseille13", "azerty12345"]
        {
            assert!(is_common(common), "{common}");
        }
        for other in [
            "sunshine20245",
            "correct horse battery staple",
            "1928374655",
            "xq-basketball",
            "dix-caract",
            "2024sunshine",
        ] {
            assert!(!is_common(other), "{other}");
        }
    }
}
