//! Key folders: what is kept, what a broken one says, and several processes at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;

use super::*;
use crate::model::algorithm::KeyAlgorithm;
use crate::model::identity::KeyId;

const LIFE: Duration = Duration::from_secs(3600);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn generated(path: &Path, algorithm: KeyAlgorithm) -> (KeyFolder, Manifest) {
    let folder = KeyFolder::new(path.join("keys"));
    let manifest = folder.change(&KeyChange::Generate, algorithm, LIFE, at(0)).unwrap();
    (folder, manifest)
}

fn names(folder: &KeyFolder) -> Vec<String> {
    let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = files.collect();
    names.sort();
    names
}

fn source(folder: &KeyFolder) -> KeySource {
    KeySource { signing: Signing::KeyFiles(KeyAlgorithm::EdDsa), accepted: Vec::new(), folder: folder.clone() }
}

#[test]
fn files_are_private_and_what_a_ring_needs() {
    let root = tempfile::tempdir().unwrap();
    for algorithm in [KeyAlgorithm::EdDsa, KeyAlgorithm::Es256] {
        let path = root.path().join(algorithm.as_str());
        let (folder, manifest) = generated(&path, algorithm);
        let [next, active] = manifest.entries() else { panic!("{manifest:?}") };
        for name in names(&folder) {
            let mode = fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let ring = source(&folder).load().unwrap();
        assert_eq!(ring.active(), &active.id);
        assert_eq!(ring.names().collect::<Vec<_>>(), [&next.id, &active.id]);
        let token = ring.signer(|_| false).unwrap().sign(b"{}").unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
        let verify = |alg: &str, kid| ring.verify(alg, kid, message.as_bytes(), &signature);
        assert_eq!(verify(algorithm.as_str(), Some(active.id.as_str())), Some(active.id.clone()));
        assert_eq!(verify(algorithm.as_str(), Some(next.id.as_str())), None);
        assert_eq!(verify(algorithm.as_str(), None), None);
        assert_eq!(verify("HS256", Some(active.id.as_str())), None);
    }
}

#[test]
fn a_rotation_keeps_the_retiring_key_s_public_part_only() {
    let root = tempfile::tempdir().unwrap();
    let (folder, first) = generated(root.path(), KeyAlgorithm::EdDsa);
    let before = source(&folder).load().unwrap();
    let second = folder.change(&KeyChange::Rotate { at_once: true }, KeyAlgorithm::EdDsa, LIFE, at(1)).unwrap();
    let ids: Vec<&KeyId> = second.entries().iter().map(|entry| &entry.id).collect();
    assert_eq!((ids[1], ids[2]), (&first.entries()[0].id, &first.entries()[1].id));
    let mut expected = vec![".lock".to_owned(), "keys.json".to_owned()];
    expected.extend([ids[0], ids[1]].map(|id| format!("key-{id}.pem")));
    expected.sort();
    assert_eq!(names(&folder), expected);
    let after = source(&folder).load().unwrap();
    assert!(!after.is_same(&before) && after.is_same(&source(&folder).load().unwrap()));
    let set: serde_json::Value = serde_json::from_slice(&after.key_set()).unwrap();
    let published: Vec<_> = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!(published, ids.iter().map(|id| id.as_str()).collect::<Vec<_>>());
}

#[test]
fn a_revoked_active_key_signs_no_more() {
    let root = tempfile::tempdir().unwrap();
    let (folder, manifest) = generated(root.path(), KeyAlgorithm::EdDsa);
    let ring = source(&folder).load().unwrap();
    let [next, active] = manifest.entries() else { panic!("{manifest:?}") };
    let header = |token: String| token.split_once('.').unwrap().0.to_owned();
    let signed = header(ring.signer(|_| false).unwrap().sign(b"{}").unwrap());
    let instead = header(ring.signer(|id| *id == active.id).unwrap().sign(b"{}").unwrap());
    assert_ne!(signed, instead);
    assert!(ring.signer(|id| *id == active.id || *id == next.id).is_none());
}

#[test]
fn secrets_and_key_files_verify_side_by_side() {
    let root = tempfile::tempdir().unwrap();
    let (folder, manifest) = generated(root.path(), KeyAlgorithm::Es256);
    let secrets = ["one secret", "another secret"].map(SecretString::from);
    let [current, previous] = secrets.clone();
    let by_secret = KeySource { signing: Signing::Secret(current), accepted: vec![previous], folder: folder.clone() };
    let ring = by_secret.load().unwrap();
    assert_eq!((ring.names().count(), ring.algorithm().as_str()), (4, "HS256"));
    // Without a name, both secrets are asked; with one, only that key.
    for secret in &secrets {
        let alone = KeyRing::of_secret(secret);
        let token = alone.signer(|_| false).unwrap().sign(b"{}").unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
        for kid in [None, Some(alone.active().as_str())] {
            assert_eq!(ring.verify("HS256", kid, message.as_bytes(), &signature), Some(alone.active().clone()));
        }
        let file = Some(manifest.entries()[0].id.as_str());
        assert_eq!(ring.verify("HS256", file, message.as_bytes(), &signature), None);
        assert!(!format!("{ring:?} {by_secret:?}").contains("secret\""), "{by_secret:?}");
    }
    let empty = KeyFolder::new(root.path().join("none"));
    let alone = KeySource { folder: empty.clone(), ..by_secret };
    assert_eq!(&*alone.load().unwrap().key_set(), b"{\"keys\":[]}");
    assert!(!empty.path().exists());
}

#[test]
fn missing_keys_are_made_once_by_callers_at_once() {
    let root = tempfile::tempdir().unwrap();
    let folder = KeyFolder::new(root.path().join("keys"));
    assert!(matches!(source(&folder).load(), Err(KeyError::Empty(_))));
    let made: Vec<bool> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| source(&folder).generate_missing(at(0)).unwrap())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    assert_eq!(names(&folder).len(), 4);
}

#[test]
fn a_reader_never_sees_half_a_change() {
    let root = tempfile::tempdir().unwrap();
    let (folder, _) = generated(root.path(), KeyAlgorithm::EdDsa);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for second in 0..20 {
                        let change = KeyChange::Rotate { at_once: true };
                        folder.change(&change, KeyAlgorithm::EdDsa, Duration::ZERO, at(second * 10_000)).unwrap();
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                match source(&folder).load() {
                    Ok(_) => reads += 1,
                    // Honest, and the gateway keeps what it has; never a half-read ring.
                    Err(KeyError::File { why, .. }) if why.contains("keeps changing") => {}
                    Err(error) => panic!("{error}"),
                }
            }
            reads
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Release);
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn what_a_crash_leaves_is_cleaned_and_counts_for_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (folder, _) = generated(root.path(), KeyAlgorithm::EdDsa);
    let before = source(&folder).load().unwrap();
    for name in ["key-orphan.pem", "key-half.pem.new", "keys.json.new"] {
        fs::write(folder.path().join(name), "half").unwrap();
    }
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    assert!(source(&folder).load().unwrap().is_same(&before));
    folder.change(&KeyChange::Prune, KeyAlgorithm::EdDsa, LIFE, at(1)).unwrap();
    assert_eq!(names(&folder).len(), 5, "{:?}", names(&folder));
    assert!(folder.path().join("notes.txt").exists());
}

#[test]
fn what_is_broken_is_said_with_its_file_and_without_the_key() {
    let root = tempfile::tempdir().unwrap();
    let (folder, manifest) = generated(root.path(), KeyAlgorithm::EdDsa);
    let [next, active] = manifest.entries() else { panic!("{manifest:?}") };
    let pem = |id: &KeyId| folder.path().join(format!("key-{id}.pem"));
    let json = folder.path().join("keys.json");
    let (good_pem, good_json) = (fs::read_to_string(pem(&active.id)).unwrap(), fs::read_to_string(&json).unwrap());
    let secret = good_pem.lines().nth(1).unwrap().to_owned();
    let said = || {
        let error = source(&folder).load().unwrap_err().to_string();
        assert!(!error.contains(&secret), "{error}");
        error
    };
    let other = fs::read_to_string(pem(&next.id)).unwrap();
    let of_other_kind = "-----BEGIN EC PRIVATE KEY-----\nMAMCAQA=\n-----END EC PRIVATE KEY-----\n";
    for (text, words) in [
        ("", "PKCS#8"),
        ("garbage", "PKCS#8"),
        (of_other_kind, "PKCS#8"),
        (&good_pem[..80], "PKCS#8"),
        (&other, "another key than its name says"),
        (&"A".repeat(70_000), "longer than"),
    ] {
        fs::write(pem(&active.id), text).unwrap();
        let error = said();
        assert!(error.contains(words) && error.contains(active.id.as_str()), "{error}");
    }
    fs::remove_file(pem(&active.id)).unwrap();
    assert!(said().contains("is missing"));
    fs::create_dir(pem(&active.id)).unwrap();
    assert!(said().contains("no regular file"));
    fs::remove_dir(pem(&active.id)).unwrap();
    fs::write(pem(&active.id), &good_pem).unwrap();

    let twice = good_json.replace(next.id.as_str(), active.id.as_str());
    for (text, words) in [
        (String::new(), "no key manifest"),
        ("{}".to_owned(), "no key manifest"),
        (good_json.replace("\"version\": 1", "\"version\": 2"), "version 2"),
        (good_json.replace("\"next\"", "\"active\""), "2 active and 0 next"),
        (good_json.replace("\"active\"", "\"retiring\""), "0 active and 1 next"),
        (good_json.replace("\"active\"", "\"sleeping\""), "no key manifest"),
        (good_json.replace("\"since\": \"", "\"since\": \"x"), "bad time"),
        (good_json.replace("Ed25519", "X25519"), "bad public key"),
        (good_json.replace("\"version\"", "\"more\": 1, \"version\""), "no key manifest"),
        (good_json.replace(active.id.as_str(), "../../etc/passwd"), "names a key oddly"),
        (twice, "public key of another"),
    ] {
        fs::write(&json, &text).unwrap();
        let error = said();
        assert!(error.contains(words) && error.contains("keys.json"), "{words}: {error}");
        assert!(folder.change(&KeyChange::Generate, KeyAlgorithm::EdDsa, LIFE, at(0)).is_err());
    }
    fs::write(&json, &good_json).unwrap();
    source(&folder).load().unwrap();
}

#[test]
fn rights_of_others_are_taken_away() {
    let root = tempfile::tempdir().unwrap();
    let (folder, manifest) = generated(root.path(), KeyAlgorithm::EdDsa);
    let pem = folder.path().join(format!("key-{}.pem", manifest.entries()[1].id));
    let json = folder.path().join("keys.json");
    fs::set_permissions(&pem, Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&json, Permissions::from_mode(0o666)).unwrap();
    source(&folder).load().unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&pem), mode(&json)), (0o600, 0o644));
    // A mounted secret that only its owner may read is as good.
    fs::set_permissions(&pem, Permissions::from_mode(0o400)).unwrap();
    source(&folder).load().unwrap();
    assert_eq!(mode(&pem), 0o400);
}

#[test]
fn retiring_keys_cannot_pile_up() {
    let root = tempfile::tempdir().unwrap();
    let (folder, _) = generated(root.path(), KeyAlgorithm::EdDsa);
    let rotate = || folder.change(&KeyChange::Rotate { at_once: true }, KeyAlgorithm::EdDsa, LIFE, at(1));
    let refused = (0..20).find_map(|_| rotate().err()).unwrap();
    assert!(refused.to_string().contains("16 keys"), "{refused}");
    source(&folder).load().unwrap();
}
