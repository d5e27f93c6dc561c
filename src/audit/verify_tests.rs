//! What a proof finds, and what it cannot.

use super::*;
use crate::audit::testing::{Chain, Stub, entries};

const COUNT: usize = 1_500; // more than a page

async fn stub(count: usize) -> Stub {
    let stub = Stub::default();
    stub.append_audit(entries("e", count)).await.unwrap();
    stub
}

/// The first broken record and what is said of it, after a change.
async fn after(change: impl FnOnce(&mut Chain)) -> (i64, String) {
    let stub = stub(COUNT).await;
    change(&mut stub.chain.lock());
    match chain(&stub).await.unwrap_err() {
        VerifyError::Broken { seq, what } => (seq, what),
        other => panic!("{other}"),
    }
}

fn kept_elsewhere(chain: &Chain) -> String {
    let mut previous = chain.head.anchor_hash;
    let mut text = String::new();
    for record in &chain.records {
        text += &line(record, &previous);
        text.push('\n');
        previous = record.hash;
    }
    text
}

#[tokio::test]
async fn an_untouched_chain_is_whole() {
    let empty = chain(&Stub::default()).await.unwrap();
    assert_eq!((empty.records, empty.first, empty.last), (0, 1, 0));
    let stub = stub(COUNT).await;
    let whole = chain(&stub).await.unwrap();
    let hash = stub.chain.lock().head.last_hash;
    assert_eq!(whole, Whole { records: 1_500, first: 1, last: 1_500, hash });
    stub.trim_audit(i64::MAX).await.unwrap();
    assert_eq!(chain(&stub).await.unwrap(), Whole { records: 0, first: 1_501, last: 1_500, hash });
    stub.append_audit(entries("f", 2)).await.unwrap();
    assert_eq!(chain(&stub).await.unwrap().records, 2);
}

#[tokio::test]
async fn every_kind_of_tampering_names_its_record() {
    let cases: Vec<(&str, i64, (i64, String))> = vec![
        (
            "was changed",
            1_200,
            after(|c| c.records[1_199].entry = c.records[1_199].entry.replace("user:7", "user:8")).await,
        ),
        ("was changed", 7, after(|c| c.records[6].hash[0] ^= 1).await),
        ("is missing", 1_001, after(|c| drop(c.records.remove(1_000))).await),
        ("is missing", 1, after(|c| drop(c.records.remove(0))).await),
        ("is missing", 1_500, after(|c| drop(c.records.pop())).await),
        ("is missing", 11, after(|c| c.records.truncate(10)).await),
        ("is missing", 1, after(|c| c.records.clear()).await),
        (
            "was changed",
            3,
            after(|c| {
                // Two records change places, keeping their numbers.
                let (third, fourth) = (c.records[2].clone(), c.records[3].clone());
                (c.records[2].entry, c.records[2].hash) = (fourth.entry, fourth.hash);
                (c.records[3].entry, c.records[3].hash) = (third.entry, third.hash);
            })
            .await,
        ),
        ("not the one in its text", 9, after(|c| c.records[8].at_ms += 1).await),
        ("another hash", 1_500, after(|c| c.head.last_hash[31] ^= 1).await),
        (
            "behind the head",
            1_500,
            after(|c| {
                let last = c.records[1_498].clone();
                (c.head.last_seq, c.head.last_hash) = (last.seq, last.hash);
            })
            .await,
        ),
        (
            "before the anchor",
            1,
            after(|c| {
                let fifth = c.records[4].clone();
                (c.head.anchor_seq, c.head.anchor_hash) = (fifth.seq, fifth.hash);
            })
            .await,
        ),
        ("is missing", 1_501, after(|c| c.head.last_seq += 1).await),
        (
            "its text says that it is record 9",
            1_500,
            after(|c| {
                // A record made by somebody who knows the rule, but not its number.
                let before = c.records[1_498].hash;
                let entry = c.records[1_499].entry.replace("\"seq\":1500", "\"seq\":9");
                c.records[1_499].hash = audit_chain(&before, &entry);
                c.records[1_499].entry = entry;
                c.head.last_hash = c.records[1_499].hash;
            })
            .await,
        ),
    ];
    for (words, seq, (found, what)) in cases {
        assert!(found == seq && what.contains(words), "expected {seq} {words:?}, got {found} {what:?}");
    }
}

/// A tail cut together with the head, and a chain made anew: whole by themselves, found by lines kept elsewhere.
#[tokio::test]
async fn lines_kept_elsewhere_find_what_the_chain_cannot() {
    let stub = stub(1_200).await;
    let kept = kept_elsewhere(&stub.chain.lock());
    let text = format!("{{\"ts\":\"an access line\"}}\nnot json\n\n{kept}");
    assert_eq!(lines(&stub, text.as_bytes()).await.unwrap(), Agreed { lines: 1_200, older: 0, others: 3 });

    let cut = stub.chain.lock().clone();
    {
        let mut chain = stub.chain.lock();
        chain.records.truncate(600);
        let last = chain.records[599].clone();
        (chain.head.last_seq, chain.head.last_hash) = (last.seq, last.hash);
    }
    assert_eq!(chain(&stub).await.unwrap().records, 600);
    let error = lines(&stub, kept.as_bytes()).await.unwrap_err().to_string();
    assert!(error.contains("record 601") && error.contains("does not have it"), "{error}");

    let anew = Stub::default();
    let mut others = entries("e", 1_200);
    others[41].actor = Some("user:8".into());
    anew.append_audit(others).await.unwrap();
    assert!(chain(&anew).await.is_ok());
    let error = lines(&anew, kept.as_bytes()).await.unwrap_err().to_string();
    assert!(error.contains("record 42") && error.contains("something else"), "{error}");

    let forged = kept.replacen("user:7", "user:8", 1);
    let error = lines(&anew, forged.as_bytes()).await.unwrap_err().to_string();
    assert!(error.contains("record 1") && error.contains("line kept elsewhere was changed"), "{error}");

    *stub.chain.lock() = cut;
    stub.chain.lock().records.drain(..10);
    {
        let mut chain = stub.chain.lock();
        let before = crate::audit::testing::records(10)[9].hash;
        (chain.head.anchor_seq, chain.head.anchor_hash) = (10, before);
    }
    // The stub's records have other ids than these, so the anchor does not fit.
    let error = lines(&stub, kept.as_bytes()).await.unwrap_err().to_string();
    assert!(error.contains("record 10") && error.contains("anchor"), "{error}");
}

#[tokio::test]
async fn lines_of_records_that_are_gone_prove_themselves() {
    let stub = stub(5).await;
    let kept = kept_elsewhere(&stub.chain.lock());
    stub.trim_audit(i64::MAX).await.unwrap();
    assert_eq!(lines(&stub, kept.as_bytes()).await.unwrap(), Agreed { lines: 0, older: 5, others: 0 });
}
