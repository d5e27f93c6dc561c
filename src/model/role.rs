//! The three roles of the platform.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an account may do. The names are the platform's own, in French.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks for a job.
    Candidat,
    /// Looks for people.
    Recruteur,
    /// Runs the platform.
    Admin,
}

impl Role {
    /// Every role, in ascending order of rights.
    pub const ALL: [Role; 3] = [Role::Candidat, Role::Recruteur, Role::Admin];

    /// The name used in tokens, headers, configuration and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Candidat => "candidat",
            Role::Recruteur => "recruteur",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role; expected candidat, recruteur or admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}
