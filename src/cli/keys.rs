//! `keys`: the key files that sign access tokens, also while gateways run: they take changes over on SIGHUP.
//!
//! A revocation goes through the store as well, where gateways see it within seconds.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::announce::announce;
use super::audit::Note;
use super::store::{Absent, StoreArgs};
use crate::accounts::KeyRing;
use crate::accounts::keys::{KeyChange, KeyFolder, KeyState, Manifest};
use crate::audit::{EventKind, Subject};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::config::settings::{TokenSecret, Tokens};
use crate::model::algorithm::{KeyAlgorithm, TokenAlgorithm};
use crate::model::identity::KeyId;
use crate::model::units::TEN_YEARS;
use crate::store::Revoked;
use crate::telemetry::metrics::AuthEvent;

/// A stolen key makes tokens with any end: the fact is kept long after the key has left every gateway.
const REVOKED_FOR: Duration = TEN_YEARS;

/// Algorithm of new keys where neither the command nor the settings name one.
const DEFAULT_ALGORITHM: KeyAlgorithm = KeyAlgorithm::EdDsa;

/// Lists and changes the key files of access tokens.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Folder of the key files; default: tokens.keys_dir, or `keys` in the data folder
    #[arg(long, global = true, value_name = "FOLDER")]
    keys_dir: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the keys: name, algorithm, state, since when
    List,
    /// Make what is missing of an active and a next key
    Generate {
        /// EdDSA or ES256; default: JWT_ALGORITHM, or EdDSA
        #[arg(long)]
        algorithm: Option<KeyAlgorithm>,
    },
    /// Let the next key sign, the active one retire, and make a new next one
    Rotate {
        /// EdDSA or ES256, for the new next key; default: JWT_ALGORITHM, or EdDSA
        #[arg(long)]
        algorithm: Option<KeyAlgorithm>,
        /// Also when the next key is published for less than 10 minutes
        #[arg(long)]
        now: bool,
    },
    /// Take one key a step on: the active one retires, the next one is replaced, a retiring one leaves
    Retire {
        /// Its name
        #[arg(allow_hyphen_values = true)]
        kid: KeyId,
        /// Also when the next key is published for less than 10 minutes
        #[arg(long)]
        now: bool,
    },
    /// Emergency: refuse everything that a key signed, everywhere, and sign with the next one
    Revoke {
        /// Its name
        #[arg(allow_hyphen_values = true)]
        kid: KeyId,
    },
    /// Remove retiring keys whose last token has ended
    Prune,
}

/// What the settings say, with the arguments on top.
struct Place<'e> {
    folder: KeyFolder,
    store: StoreArgs,
    env: &'e Env,
    tokens: Tokens,
    clock: Clock,
}

/// The key files after a command.
struct Changed {
    after: Manifest,
    /// Whether gateways must be told.
    differs: bool,
}

impl Changed {
    fn say(&self, place: &Place<'_>, out: &mut impl Write) -> anyhow::Result<()> {
        place.list(&self.after, out)?;
        if self.differs {
            writeln!(out, "Send SIGHUP to every gateway that uses these keys.")?;
        }
        Ok(())
    }
}

/// Runs the command; what it says goes to the standard output.
pub fn run(args: KeysArgs, env: &Env) -> anyhow::Result<()> {
    let tokens = Tokens::load(args.store.config(), env)?;
    let folder = match args.keys_dir.or_else(|| tokens.keys_dir.clone()) {
        Some(folder) => folder,
        None => args.store.settings(env)?.data_dir.join("keys"),
    };
    let place = Place { folder: KeyFolder::new(folder), store: args.store, env, tokens, clock: Clock::system() };
    place.execute(args.command, &mut std::io::stdout().lock())
}

impl Place<'_> {
    fn execute(&self, command: KeysCommand, out: &mut impl Write) -> anyhow::Result<()> {
        match command {
            KeysCommand::List => {
                let manifest = self.folder.manifest()?;
                if manifest.is_none() {
                    writeln!(out, "no key files in {}", self.folder.path().display())?;
                }
                self.list(&manifest.unwrap_or_default(), out)
            }
            KeysCommand::Generate { algorithm } => self.change(&KeyChange::Generate, algorithm)?.say(self, out),
            KeysCommand::Rotate { algorithm, now } => {
                self.change(&KeyChange::Rotate { at_once: now }, algorithm)?.say(self, out)
            }
            KeysCommand::Retire { kid, now } => {
                self.change(&KeyChange::Retire { id: kid, at_once: now }, None)?.say(self, out)
            }
            KeysCommand::Revoke { kid } => self.revoke(kid, out),
            KeysCommand::Prune => self.change(&KeyChange::Prune, None)?.say(self, out),
        }
    }

    fn change(&self, change: &KeyChange, algorithm: Option<KeyAlgorithm>) -> anyhow::Result<Changed> {
        let algorithm = algorithm.unwrap_or(match self.tokens.algorithm {
            TokenAlgorithm::KeyFile(algorithm) => algorithm,
            TokenAlgorithm::Hs256 => DEFAULT_ALGORITHM,
        });
        let before = self.folder.manifest()?;
        let after = self.folder.change(change, algorithm, self.tokens.access_ttl, self.clock.wall())?;
        Ok(Changed { differs: before.as_ref() != Some(&after), after })
    }

    fn list(&self, manifest: &Manifest, out: &mut impl Write) -> anyhow::Result<()> {
        for entry in manifest.entries() {
            let (id, algorithm, state) = (&entry.id, entry.algorithm(), entry.state.as_str());
            writeln!(out, "{id}\t{algorithm}\t{state}\t{}", entry.since)?;
        }
        for (id, words) in self.secrets() {
            writeln!(out, "{id}\tHS256\t{words}\tfrom the settings of this command")?;
        }
        Ok(())
    }

    /// Names of the secrets that this command can see, and what they are for.
    fn secrets(&self) -> Vec<(KeyId, &'static str)> {
        let signs = if self.tokens.algorithm == TokenAlgorithm::Hs256 { "active" } else { "accepted" };
        let given = match &self.tokens.secret {
            TokenSecret::Given(secret) => Some((secret, signs)),
            TokenSecret::None | TokenSecret::Generate => None,
        };
        let all = given.into_iter().chain(self.tokens.previous_secret.iter().map(|secret| (secret, "accepted")));
        all.map(|(secret, words)| (KeyRing::of_secret(secret).active().clone(), words)).collect()
    }

    /// The store first: gateways refuse the key within seconds, told or not. The files then let no later gateway take
    /// it up again. The note is last, for a trail that does not take it must stop none of this.
    fn revoke(&self, kid: KeyId, out: &mut impl Write) -> anyhow::Result<()> {
        let manifest = self.folder.manifest()?.unwrap_or_default();
        let state = manifest.entries().iter().find(|entry| entry.id == kid).map(|entry| entry.state);
        let is_secret = self.secrets().iter().any(|(id, _)| *id == kid);
        if state.is_none() && !is_secret {
            bail!("no key is named {kid}; `keys list` names them");
        }
        let until_s = self.clock.unix_seconds().saturating_add(i64::try_from(REVOKED_FOR.as_secs())?);
        let redis = self.store.settings(self.env)?.redis;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (removed, noted) = runtime.block_on(async {
            // A mistyped folder must not look like a store that took the fact.
            let store = self.store.open(self.env, Absent::Refuse).await?;
            store.revoke(Revoked::Key(kid.clone()), until_s).await?;
            announce(&redis, &[(Revoked::Key(kid.clone()), until_s)]).await;
            let removed = state.map(|_| self.change(&KeyChange::Remove(kid.clone()), None));
            let kind = EventKind::Auth(AuthEvent::AuthzAdmin);
            let details = "every token of the key revoked".to_owned();
            let noted = Note { kind, subject: Some(Subject::Key(kid.clone())), details }.write(&*store).await;
            anyhow::Ok((removed, noted))
        })?;
        writeln!(out, "{kid} is revoked: gateways refuse what it signed within seconds.")?;
        if is_secret {
            writeln!(out, "It is a secret: set another JWT_SECRET (or unset JWT_SECRET_PREVIOUS) and restart.")?;
        }
        if state == Some(KeyState::Active) && manifest.entries().iter().all(|entry| entry.state != KeyState::Next) {
            writeln!(out, "There was no next key: nobody can log in until gateways take over the new one.")?;
        }
        match removed {
            Some(Ok(changed)) => changed.say(self, out)?,
            Some(Err(error)) => {
                if let Err(untold) = &noted {
                    eprintln!("ssm-gateway: {untold:#}");
                }
                return Err(error.context("the key is revoked, but its file could not be taken away"));
            }
            None => {}
        }
        noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::{EmbeddedStore, FILE_NAME};
    use crate::store::{IdentityStore, RevocationStore as _};

    struct World {
        place: Place<'static>,
        hand: crate::clock::Hand,
        root: tempfile::TempDir,
    }

    fn world(env: &[(&str, &str)]) -> World {
        let root = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual();
        let env = Box::leak(Box::new(Env::from_pairs(env.iter().copied())));
        let tokens = Tokens::load(None, env).unwrap();
        let (folder, store) = (KeyFolder::new(root.path().join("keys")), StoreArgs::in_folder(root.path()));
        World { place: Place { folder, store, env, tokens, clock }, hand, root }
    }

    impl World {
        fn say(&self, command: KeysCommand) -> anyhow::Result<String> {
            let mut out = Vec::new();
            self.place.execute(command, &mut out).map(|()| String::from_utf8(out).unwrap())
        }

        /// Names in the order of the list, with their states.
        fn keys(&self) -> Vec<(String, String)> {
            let text = self.say(KeysCommand::List).unwrap();
            let columns = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
            columns.map(|columns| (columns[0].to_owned(), format!("{} {}", columns[1], columns[2]))).collect()
        }

        fn states(&self) -> Vec<String> {
            self.keys().into_iter().map(|(_, state)| state).collect()
        }
    }

    #[test]
    fn keys_go_from_next_to_active_to_retiring_to_gone() {
        let world = world(&[("JWT_ALGORITHM", "EdDSA"), ("JWT_EXPIRE_HOURS", "1")]);
        let said = world.say(KeysCommand::Rotate { algorithm: None, now: false }).unwrap_err().to_string();
        assert!(said.contains("keys generate"), "{said}");
        assert!(world.say(KeysCommand::Generate { algorithm: None }).unwrap().contains("SIGHUP"));
        let first = world.keys();
        assert_eq!(world.states(), ["EdDSA next", "EdDSA active"]);
        assert!(world.say(KeysCommand::Generate { algorithm: None }).unwrap_err().to_string().contains("keys rotate"));

        let said = world.say(KeysCommand::Rotate { algorithm: None, now: false }).unwrap_err().to_string();
        assert!(said.contains("try again in 600s") && said.contains("--now"), "{said}");
        world.hand.advance(Duration::from_secs(600));
        world.say(KeysCommand::Rotate { algorithm: Some(KeyAlgorithm::Es256), now: false }).unwrap();
        assert_eq!(world.states(), ["ES256 next", "EdDSA active", "EdDSA retiring"]);
        assert_eq!((&world.keys()[1].0, &world.keys()[2].0), (&first[0].0, &first[1].0));

        // An hour of token life, and an hour to be told.
        world.hand.advance(Duration::from_secs(7_200));
        let said = world.say(KeysCommand::Prune).unwrap();
        assert!(world.states().len() == 3 && !said.contains("SIGHUP"), "{said}");
        world.hand.advance(Duration::from_secs(1));
        assert!(world.say(KeysCommand::Prune).unwrap().contains("SIGHUP"));
        assert_eq!(world.states(), ["ES256 next", "EdDSA active"]);
        world.say(KeysCommand::Rotate { algorithm: None, now: false }).unwrap();
        assert_eq!(world.states(), ["EdDSA next", "ES256 active", "EdDSA retiring"]);
    }

    #[test]
    fn only_generate_makes_the_folder() {
        let world = world(&[]);
        let folder = world.root.path().join("keys");
        let kid = || "unknown".parse::<KeyId>().unwrap();
        for command in [
            KeysCommand::Rotate { algorithm: None, now: true },
            KeysCommand::Retire { kid: kid(), now: true },
            KeysCommand::Prune,
        ] {
            let said = world.say(command).unwrap_err().to_string();
            assert!(said.contains(folder.to_str().unwrap()) && said.contains("keys generate"), "{said}");
        }
        assert!(world.say(KeysCommand::Revoke { kid: kid() }).is_err());
        assert_eq!(world.say(KeysCommand::List).unwrap(), format!("no key files in {}\n", folder.display()));
        assert!(!folder.exists());
        world.say(KeysCommand::Generate { algorithm: None }).unwrap();
        assert_eq!(world.keys().len(), 2);
    }

    #[test]
    fn a_failing_note_stops_nothing_else() {
        let world = world(&[]);
        world.say(KeysCommand::Generate { algorithm: None }).unwrap();
        let keys = world.keys();
        let path = world.root.path().join(FILE_NAME);
        let store = EmbeddedStore::open(&path).unwrap();
        let trail = rusqlite::Connection::open(&path).unwrap();
        let broken = "CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'broken'); END";
        trail.execute_batch(broken).unwrap();
        let mut out = Vec::new();
        let command = KeysCommand::Revoke { kid: keys[1].0.parse().unwrap() };
        let error = world.place.execute(command, &mut out).unwrap_err();
        assert!(error.to_string().contains("the audit trail does not have it"), "{error}");
        let said = String::from_utf8(out).unwrap();
        assert!(said.contains("is revoked") && said.contains("SIGHUP"), "{said}");
        assert!(world.keys().iter().all(|(id, _)| *id != keys[1].0));
        assert!(!world.root.path().join(format!("keys/key-{}.pem", keys[1].0)).exists());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(store.revocations_since(0, 10)).unwrap().len(), 1);
    }

    #[test]
    fn one_key_is_taken_a_step_on() {
        let world = world(&[]);
        world.say(KeysCommand::Generate { algorithm: Some(KeyAlgorithm::Es256) }).unwrap();
        let kid = |at: usize| world.keys()[at].0.parse::<KeyId>().unwrap();
        let (next, active) = (kid(0), kid(1));
        world.say(KeysCommand::Retire { kid: next.clone(), now: false }).unwrap();
        assert!(kid(0) != next && kid(1) == active);
        let next = kid(0);
        assert!(world.say(KeysCommand::Retire { kid: active.clone(), now: false }).is_err());
        world.say(KeysCommand::Retire { kid: active.clone(), now: true }).unwrap();
        assert_eq!((kid(1), kid(2)), (next, active.clone()));
        world.say(KeysCommand::Retire { kid: active.clone(), now: false }).unwrap();
        assert_eq!(world.states().len(), 2);
        let said = world.say(KeysCommand::Retire { kid: active, now: false }).unwrap_err().to_string();
        assert!(said.contains("no key is named"), "{said}");
    }

    #[test]
    fn a_revoked_key_is_a_fact_in_the_store_and_leaves_the_files() {
        let secret = "kX2v9Qm4Lr7TzBn1Wc8Yp5Hd3Jf6Gs0A";
        let world = world(&[("JWT_ALGORITHM", "EdDSA"), ("JWT_SECRET", secret)]);
        world.say(KeysCommand::Generate { algorithm: None }).unwrap();
        let keys = world.keys();
        assert_eq!((keys.len(), keys[2].1.as_str()), (3, "HS256 accepted"));
        let kid = |at: usize| keys[at].0.parse::<KeyId>().unwrap();
        let said = world.say(KeysCommand::Revoke { kid: kid(1) }).unwrap_err().to_string();
        assert!(said.contains("no identity store"), "{said}");
        assert_eq!(world.keys(), keys);

        let path = world.root.path().join(FILE_NAME);
        let store: Box<dyn IdentityStore> = Box::new(EmbeddedStore::open(&path).unwrap());
        world.say(KeysCommand::Revoke { kid: kid(1) }).unwrap();
        assert_eq!(world.keys()[1], (keys[0].0.clone(), "EdDSA active".to_owned()));
        assert!(world.keys().iter().all(|(id, _)| *id != keys[1].0));
        let said = world.say(KeysCommand::Revoke { kid: kid(2) }).unwrap();
        assert!(said.contains("set another JWT_SECRET") && !said.contains(secret), "{said}");
        assert!(!said.contains("SIGHUP"), "no file changed: {said}");
        assert!(world.say(KeysCommand::Revoke { kid: "unknown".parse().unwrap() }).is_err());

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let facts = runtime.block_on(store.revocations_since(0, 10)).unwrap();
        let revoked: Vec<_> = facts.into_iter().map(|fact| fact.revoked).collect();
        assert_eq!(revoked, [Revoked::Key(kid(1)), Revoked::Key(kid(2))]);
    }
}
