//! The spool: order, cap, torn lines, room given back.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::audit::testing::entry;

const ROOMY: u64 = 1 << 20;

fn spool(folder: &tempfile::TempDir, cap: u64) -> Spool {
    let mut spool = Spool::new(folder.path().join("audit.spool"), cap);
    assert_eq!(spool.take_over().unwrap(), None);
    spool
}

fn reopened(folder: &tempfile::TempDir) -> (Spool, Option<SetAside>) {
    let mut spool = Spool::new(folder.path().join("audit.spool"), ROOMY);
    let aside = spool.take_over().unwrap();
    (spool, aside)
}

fn ids(spool: &Spool) -> Vec<String> {
    spool.peek(usize::MAX).unwrap().into_iter().map(|entry| entry.id).collect()
}

#[test]
fn entries_leave_in_the_order_in_which_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(&folder, ROOMY);
    assert_eq!(spool.push(&[entry("a"), entry("b")]).entries, 2);
    assert_eq!(spool.push(&[entry("c")]).entries, 1);
    assert_eq!((ids(&spool), spool.waiting()), (vec!["a".into(), "b".into(), "c".into()], 3));
    assert_eq!(spool.peek(2).unwrap(), [entry("a"), entry("b")]);
    spool.advance(2).unwrap();
    spool.push(&[entry("d")]);
    assert_eq!(ids(&spool), ["c", "d"]);
    spool.advance(2).unwrap();
    let path = folder.path().join("audit.spool");
    assert_eq!((spool.waiting(), fs::metadata(&path).unwrap().len()), (0, 0));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_next_process_finds_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = spool(&folder, ROOMY);
    first.push(&[entry("a"), entry("b"), entry("c")]);
    first.advance(1).unwrap();
    drop(first);
    // How far it was emptied is known to the store only.
    let (mut second, aside) = reopened(&folder);
    assert_eq!((second.waiting(), aside), (3, None));
    assert_eq!(second.skip_past(&["a".to_owned(), "x".to_owned()].into()).unwrap(), 1);
    assert_eq!((ids(&second), second.waiting()), (vec!["b".into(), "c".into()], 2));
    assert_eq!(second.skip_past(&["x".to_owned()].into()).unwrap(), 0);
    assert_eq!(second.skip_past(&["c".to_owned()].into()).unwrap(), 2);
    assert_eq!(second.waiting(), 0);
}

#[test]
fn a_torn_last_line_is_set_aside_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    spool(&folder, ROOMY).push(&[entry("a"), entry("b")]);
    let path = folder.path().join("audit.spool");
    let whole = fs::read(&path).unwrap();
    let line = whole.len() / 2;
    for cut in 1..=line {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let (mut spool, aside) = reopened(&folder);
        let (left, torn): (&[&str], _) = match cut {
            1 => (&["a", "b"], None), // only its end is missing
            cut if cut == line => (&["a"], None),
            _ => (&["a"], Some(1)),
        };
        assert_eq!(
            (ids(&spool), aside.map(|aside| aside.lines)),
            (left.iter().map(|id| (*id).to_owned()).collect(), torn)
        );
        spool.push(&[entry("c")]);
        assert_eq!(ids(&spool).last().map(String::as_str), Some("c"), "cut by {cut}");
    }
    let bad = fs::read(folder.path().join("audit.spool.bad")).unwrap();
    assert!(bad.starts_with(b"{\"event\""), "{bad:?}");
}

#[test]
fn garbage_in_the_middle_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    spool(&folder, ROOMY).push(&[entry("a"), entry("b")]);
    let path = folder.path().join("audit.spool");
    let text = fs::read_to_string(&path).unwrap();
    let impossible = text.lines().next().unwrap().replace("\"at_ms\":1000", "\"at_ms\":9223372036854775807");
    fs::write(&path, text.replacen('\n', &format!("\nnonsense\n\u{0}\n{impossible}\n"), 1)).unwrap();
    let (spool, aside) = reopened(&folder);
    assert_eq!((ids(&spool), aside.map(|aside| aside.lines)), (vec!["a".into(), "b".into()], Some(3)));
}

#[test]
fn the_cap_holds_and_room_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let one = serde_json::to_vec(&entry("a")).unwrap().len() as u64 + 1;
    let mut spool = spool(&folder, 3 * one);
    let kept = spool.push(&[entry("a"), entry("b"), entry("c"), entry("d")]);
    assert_eq!((kept.entries, spool.waiting()), (3, 3));
    assert!(kept.problem.unwrap().contains("full"));
    assert_eq!(spool.push(&[entry("e")]).entries, 0);
    spool.advance(2).unwrap();
    assert_eq!(spool.push(&[entry("f"), entry("g"), entry("h")]).entries, 2);
    assert_eq!(ids(&spool), ["c", "f", "g"]);
    assert!(fs::metadata(folder.path().join("audit.spool")).unwrap().len() <= 3 * one);
}

#[test]
fn a_disk_that_fails_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::new(folder.path().join("no/such/folder/audit.spool"), ROOMY);
    assert!(!spool.is_known() && spool.push(&[entry("a")]).entries == 0);
    assert_eq!(spool.take_over().unwrap(), None);
    let kept = spool.push(&[entry("a")]);
    assert_eq!((kept.entries, spool.waiting()), (0, 0));
    assert!(kept.problem.unwrap().contains("audit.spool"));
}

#[test]
fn a_file_that_cannot_be_read_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.spool");
    fs::create_dir(&path).unwrap();
    let mut spool = Spool::new(path.clone(), ROOMY);
    assert!(spool.take_over().is_err() && !spool.is_known());
    let kept = spool.push(&[entry("a")]);
    assert!(kept.entries == 0 && kept.problem.unwrap().contains("cannot be read"));
    fs::remove_dir(&path).unwrap();
    spool.take_over().unwrap();
    assert_eq!(spool.push(&[entry("a")]).entries, 1);
}
