//! The keys of access tokens: secrets and key files, their rotation, the ring that a gateway has in force, and the
//! published key set.
//!
//! [`KeySource`] says where keys are, [`KeyFolder`] changes key files, [`KeyRing`] is what signs and verifies.

mod files;
mod folder;
mod jwk;
mod manifest;
mod primitive;
mod ring;
mod source;

#[cfg(test)]
mod folder_tests;
#[cfg(test)]
mod vector_tests;

pub use folder::{KeyChange, KeyError, KeyFolder};
pub use manifest::{Entry, KeyRefusal, KeyState, Manifest, PUBLISHED_BEFORE_USE, TOLD_WITHIN};
pub use ring::KeyRing;
pub(super) use ring::Signer;
pub use source::{KeySource, Signing};
