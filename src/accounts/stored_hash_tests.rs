//! Hashes of every kind: what verifies, what asks for a better one, what is refused.

use super::*;

const CHEAP: Work = Work { argon2: HashCost { memory_kib: 8, passes: 1, lanes: 1 }, bcrypt: 0 };

fn bcrypt_of(password: &[u8]) -> String {
    bcrypt::hash_with_salt(password, 4, [3; 16]).unwrap().to_string()
}

fn argon2_of(password: &str, algorithm: Algorithm, version: Version, memory_kib: u32, passes: u32) -> String {
    use argon2::PasswordHasher;
    let params = Params::new(memory_kib, passes, 1, None).unwrap();
    Argon2::new(algorithm, version, params).hash_password(password.as_bytes()).unwrap().to_string()
}

fn check(password: &str, stored: &str) -> Verdict {
    judge(&password.into(), Some(stored), CHEAP)
}

/// Vectors of jBCrypt (`$2a$`) and crypt_blowfish (`U*U`), and hashes made by passlib 1.7.4 with bcrypt 4.0.1.
#[test]
fn hashes_of_other_programs_verify() {
    for (password, hash) in [
        ("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
        ("abcdefghijklmnopqrstuvwxyz", "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC"),
        ("mot de passe d'Élodie", "$2b$05$KC44hAl0kDRgtg6AkJvHPumegoCJwf40390EUR5O/bT7RGlocnM3S"),
        ("mot de passe d'Élodie", "$2y$05$DBjGpOXM2D0f8T0667DLauJU98LhpHvq7vy5oWs7mBIVW638EmMKG"),
        ("U*U", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    ] {
        assert_eq!(check(password, hash), Verdict::RightButWeak, "{hash}");
        assert_eq!(check(&format!("{password}x"), hash), Verdict::Wrong, "{hash}");
    }
}

#[test]
fn of_a_long_password_bcrypt_knows_72_bytes_and_nothing_crashes() {
    let long = "é".repeat(60);
    // passlib 1.7.4 with bcrypt 4.0.1, which cut; so did others, or crashed.
    let theirs = "$2a$05$pfHFIruJKuwHtiPzs7Tvh.O3CP3Eh6EInH7ivPzTYWm1yq5wsNamu";
    assert_eq!(check(&long, theirs), Verdict::RightButWeak);
    let hash = bcrypt_of(&long.as_bytes()[..72]);
    assert_eq!(check(&long, &hash), Verdict::RightButWeak);
    assert_eq!(check(&"é".repeat(36), &hash), Verdict::RightButWeak);
    assert_eq!(check(&"é".repeat(35), &hash), Verdict::Wrong);
    assert_eq!(check(&"x".repeat(10_000), &hash), Verdict::Wrong);
}

#[test]
fn a_nul_is_never_a_match_of_bcrypt() {
    let hash = bcrypt_of(b"ab");
    assert_eq!(check("ab", &hash), Verdict::RightButWeak);
    for other in ["ab\0", "ab\0ab", "\0", "ab\0ab\0ab"] {
        assert_eq!(check(other, &hash), Verdict::Wrong, "{other:?}");
    }
}

#[test]
fn weaker_argon2_asks_for_a_new_hash_and_stronger_does_not() {
    let wanted = Work { argon2: HashCost { memory_kib: 64, passes: 2, lanes: 1 }, bcrypt: 0 };
    use Algorithm::{Argon2d, Argon2i, Argon2id};
    for (algorithm, version, memory_kib, passes, expected) in [
        (Argon2id, Version::V0x13, 64, 2, Verdict::Right),
        (Argon2id, Version::V0x13, 128, 1, Verdict::Right),
        (Argon2id, Version::V0x13, 1024, 3, Verdict::Right),
        (Argon2id, Version::V0x13, 64, 1, Verdict::RightButWeak),
        (Argon2id, Version::V0x13, 32, 50, Verdict::RightButWeak),
        (Argon2id, Version::V0x10, 64, 2, Verdict::RightButWeak),
        (Argon2i, Version::V0x13, 64, 2, Verdict::RightButWeak),
        (Argon2d, Version::V0x13, 64, 2, Verdict::RightButWeak),
    ] {
        let hash = argon2_of("right", algorithm, version, memory_kib, passes);
        assert_eq!(judge(&"right".into(), Some(&hash), wanted), expected, "{hash}");
        assert_eq!(judge(&"wrong".into(), Some(&hash), wanted), Verdict::Wrong, "{hash}");
    }
}

#[test]
fn what_would_cost_too_much_or_is_damaged_is_not_checked() {
    let salt = "c29tZXNhbHQ$RdescudvJCsgt3ub+b7dWRWJTmaaJObG";
    let bcrypt = bcrypt_of(b"right");
    for hash in [
        format!("$argon2id$v=19$m=4194304,t=1,p=1${salt}"),
        format!("$argon2id$v=19$m=65536,t=4294967295,p=1${salt}"),
        format!("$argon2id$v=19$m=65536,t=1,p=16777215${salt}"),
        format!("$argon2id$v=19$m=262145,t=1,p=1${salt}"),
        format!("$scrypt$ln=10,r=8,p=1${salt}"),
        bcrypt.replace("$04$", "$31$"),
        bcrypt.replace("$04$", "$03$"),
        bcrypt.replace("$2b$", "$2x$"),
        bcrypt[..50].to_owned(),
        "nonsense".to_owned(),
        "$2b$é".to_owned(),
        String::new(),
    ] {
        assert!(parse(&hash).is_err(), "{hash}");
        assert_eq!(check("right", &hash), Verdict::Wrong, "{hash}");
    }
}

#[test]
fn the_steps_of_bcrypt_add_up() {
    for (done, to) in [(4, 4), (4, 5), (4, 12), (10, 14)] {
        let rounds: u64 = (1 << done) + (done..to).map(|cost| 1_u64 << cost).sum::<u64>();
        assert_eq!(rounds, 1 << to);
    }
    // A cost beyond the greatest known one is not made up for, and does no harm.
    burn_bcrypt(5, 4);
}
