//! The gateway under measurement: its files in a fresh folder, its accounts written straight into the store.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ssm_gateway::accounts::{HashCost, HashPool};
use ssm_gateway::clock::Clock;
use ssm_gateway::model::identity::UserId;
use ssm_gateway::model::role::Role;
use ssm_gateway::store::embedded::{EmbeddedStore, FILE_NAME};
use ssm_gateway::store::{NewUser, UserChange, UserStore};
use tempfile::TempDir;

use crate::server::{Contestant, free_address};

/// The password of every account.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A prepared gateway and its store.
pub(crate) struct Setup {
    pub(crate) contestant: Contestant,
    store: EmbeddedStore,
    argon2: String,
    _directory: TempDir,
}

impl Setup {
    /// Writes the files; accounts come next.
    pub(crate) async fn new(program: &Path, origin: SocketAddr) -> Result<Setup> {
        let directory = TempDir::new().context("a temporary folder")?;
        let path = directory.path();
        let (address, admin) = (free_address()?, free_address()?);
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let file = path.join(name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
            Ok(file)
        };
        let config = write("gateway.yaml", settings(address, admin, &path.join("access.log")))?;
        let routes = write("routes.yaml", table(origin))?;
        let data = path.join("data");
        fs::create_dir(&data)?;
        let store = EmbeddedStore::open(&data.join(FILE_NAME))?;
        let flags = [("--config", config), ("--routes", routes), ("--data-dir", data)];
        let flags = flags.into_iter().flat_map(|(name, path)| [OsString::from(name), path.into()]);
        let arguments = std::iter::once(OsString::from("run")).chain(flags).collect();
        let program =
            program.canonicalize().with_context(|| format!("the gateway's program, {}", program.display()))?;
        let hashes = HashPool::new(HashCost::default(), 1, 1, Clock::system()).map_err(anyhow::Error::msg)?;
        let argon2 = hashes.hash(PASSWORD.into()).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let contestant = Contestant { name: "gateway", program, arguments, address, directory: path.to_owned() };
        Ok(Setup { contestant, store, argon2, _directory: directory })
    }

    /// Adds an account with an Argon2id hash.
    pub(crate) async fn account(&self, email: &str) -> Result<UserId> {
        self.adopt(email, &self.argon2).await
    }

    /// Adds an account with this hash.
    pub(crate) async fn adopt(&self, email: &str, hash: &str) -> Result<UserId> {
        let user = NewUser {
            email_key: email.to_owned(),
            email: email.to_owned(),
            full_name: "Camille".to_owned(),
            role: Role::Candidat,
            password_hash: hash.to_owned(),
            created_at_ms: 0,
        };
        Ok(self.store.insert_user(user).await?.id)
    }

    /// Forbids an account to log in.
    pub(crate) async fn deactivate(&self, id: UserId) -> Result<()> {
        self.store.change_user(id, UserChange::Active(false), 0, i64::MAX).await?;
        Ok(())
    }
}

/// The load comes from one address and says in a trusted header whose it is.
fn settings(address: SocketAddr, admin: SocketAddr, access_log: &Path) -> String {
    let (ip, port, log) = (address.ip(), address.port(), access_log.display());
    format!(
        "listen: {{ address: \"{ip}\", port: {port} }}\nthreads: 1\nadmin: {{ address: \"{admin}\" }}\n\
         trusted_proxies: [\"127.0.0.1/32\"]\nlog: {{ level: error, access: \"{log}\" }}\n"
    )
}

fn table(origin: SocketAddr) -> String {
    format!(
        r#"version: 1
pools:
  origin: {{ targets: ["http://{origin}"] }}
routes:
  - name: login
    match: {{ path: /api/gateway/auth/login, methods: [POST] }}
    to: {{ builtin: auth_login }}
    auth: public
    limits: []
  - name: match-algorithms
    match: {{ path: /api/gateway/match/algorithms, methods: [GET] }}
    to: {{ pool: origin, path: /api/v1/algorithms }}
    auth: {{ roles: [candidat, recruteur, admin] }}
    limits: []
"#
    )
}
