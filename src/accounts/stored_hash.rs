//! Checking a password against what is kept of it: Argon2 of any bearable cost, or bcrypt of the earlier gateway.
//!
//! **Every failure does the same work**: one Argon2id hash of the configured cost, and while active accounts have bcrypt
//! hashes, one bcrypt of the greatest cost among them. A check that cost less than that does the rest with a password
//! that nobody has. So neither an unknown address nor the kind of an account's hash shows in the time. A success may be
//! faster: it says that the account exists anyway.

use std::hint::black_box;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordVerifier, Version};
use secrecy::{ExposeSecret, SecretString};

use super::hashing::HashCost;
use super::password::canonical;

/// Greatest cost of a bcrypt hash that is checked: 2^14 rounds take about a second.
pub(super) const MAX_BCRYPT_COST: u32 = 14;

/// bcrypt knows no more of a password than this; what made the earlier gateway's hashes cut there.
const BCRYPT_BYTES: usize = 72;

/// Most memory that one kept hash may ask for, in KiB (256 MiB).
const MAX_MEMORY_KIB: u32 = 256 * 1024;

/// Most memory times passes that one kept hash may ask for, in KiB: about a second.
const MAX_WORK_KIB: u64 = 1024 * 1024;

/// Fewest bytes of a hash that need no better one.
const MIN_OUTPUT: usize = 32;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not the password, or nothing to compare with.
    Wrong,
    /// The password.
    Right,
    /// The password, and its hash should be made anew: bcrypt, or weaker than configured.
    RightButWeak,
}

/// What failures cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// One Argon2id hash.
    pub(super) argon2: HashCost,
    /// One bcrypt of this cost; 0: none.
    pub(super) bcrypt: u32,
}

enum Stored<'h> {
    Argon2(Box<PasswordHash>, Params),
    Bcrypt(&'h str, u32),
}

/// Whether `password` is the one of `stored`; without one, it is not.
pub(super) fn judge(password: &SecretString, stored: Option<&str>, work: Work) -> Verdict {
    let stored = stored.and_then(|text| match parse(text) {
        Ok(stored) => Some(stored),
        Err(why) => {
            tracing::error!(why, "a stored password hash cannot be used; that account cannot log in");
            None
        }
    });
    match stored {
        None => {
            burn_argon2(work.argon2, 0);
            burn_bcrypt(0, work.bcrypt);
        }
        Some(Stored::Argon2(hash, params)) => {
            let text = canonical(password);
            if Argon2::default().verify_password(text.expose_secret().as_bytes(), &*hash).is_ok() {
                return if is_weak(&hash, &params, work.argon2) { Verdict::RightButWeak } else { Verdict::Right };
            }
            burn_argon2(work.argon2, work_kib(&params));
            burn_bcrypt(0, work.bcrypt);
        }
        Some(Stored::Bcrypt(hash, cost)) => {
            if bcrypt_matches(password.expose_secret().as_bytes(), hash) {
                return Verdict::RightButWeak;
            }
            burn_argon2(work.argon2, 0);
            burn_bcrypt(cost, work.bcrypt);
        }
    }
    Verdict::Wrong
}

/// The cost of a kept bcrypt hash that would be checked.
pub(super) fn bcrypt_cost(stored: &str) -> Option<u32> {
    match parse(stored) {
        Ok(Stored::Bcrypt(_, cost)) => Some(cost),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Stored<'_>, &'static str> {
    if ["$2a$", "$2b$", "$2y$"].iter().any(|kind| text.starts_with(kind)) {
        let parts: bcrypt::HashParts = text.parse().map_err(|_| "it is a damaged bcrypt hash")?;
        return match parts.get_cost() {
            cost @ 4..=MAX_BCRYPT_COST => Ok(Stored::Bcrypt(text, cost)),
            _ => Err("its bcrypt cost is not between 4 and 14"),
        };
    }
    let hash = PasswordHash::new(text).map_err(|_| "it is neither a PHC string nor bcrypt")?;
    Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| "its algorithm is not Argon2")?;
    let params = Params::try_from(&hash).map_err(|_| "its Argon2 parameters are not possible")?;
    if params.m_cost() > MAX_MEMORY_KIB || work_kib(&params) > MAX_WORK_KIB || params.p_cost() > 64 {
        return Err("its Argon2 parameters cost more than the gateway is ready to spend");
    }
    Ok(Stored::Argon2(Box::new(hash), params))
}

fn work_kib(params: &Params) -> u64 {
    u64::from(params.m_cost()) * u64::from(params.t_cost())
}

fn is_weak(hash: &PasswordHash, params: &Params, wanted: HashCost) -> bool {
    params.m_cost() < wanted.memory_kib
        || work_kib(params) < wanted.work_kib()
        || hash.algorithm.as_str() != Algorithm::Argon2id.as_str()
        || hash.version != Some(u32::from(Version::V0x13))
        || hash.hash.as_ref().is_none_or(|output| output.len() < MIN_OUTPUT)
}

/// A NUL is refused: the earlier gateway refused it, and bcrypt takes `a\0a` for `a`.
fn bcrypt_matches(password: &[u8], hash: &str) -> bool {
    let known = password.get(..BCRYPT_BYTES).unwrap_or(password);
    // Checked in any case, so that the time is the same.
    bcrypt::verify(known, hash).unwrap_or(false) & !password.contains(&0)
}

/// The work of an Argon2id hash, less what was `done` already: the same memory when nothing was, else one pass over the rest.
fn burn_argon2(cost: HashCost, done: u64) {
    let rest = u32::try_from(cost.work_kib().saturating_sub(done)).unwrap_or(cost.memory_kib);
    let (memory_kib, passes) = if done == 0 { (cost.memory_kib, cost.passes) } else { (rest, 1) };
    // Too little for Argon2: too little to be seen.
    let Ok(params) = Params::new(memory_kib, passes, cost.lanes, None) else { return };
    let mut output = [0_u8; 32];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let done = argon2.hash_password_into(b"nobody's password", b"nobody's salt...", black_box(&mut output));
    black_box((done.is_ok(), output));
}

/// The work of a bcrypt of cost `to`, less one of cost `done` that was made (0: none): each step of the cost doubles it, so
/// 2^done + 2^done + 2^(done+1) + … + 2^(to-1) = 2^to.
fn burn_bcrypt(done: u32, to: u32) {
    if to == 0 {
        return;
    }
    let costs = if done == 0 { to..to.saturating_add(1) } else { done..to };
    for cost in costs {
        black_box(bcrypt::hash_with_salt(b"nobody's password", cost, [7; 16]).is_ok());
    }
}

#[cfg(test)]
#[path = "stored_hash_tests.rs"]
mod tests;
