//! SIGHUP: the whole new table or nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::whole_file;
use crate::audit::{Actor, Audit, Event, EventKind};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::config::problem::Problems;
use crate::config::routes::{self, Checked};
use crate::snapshot::{Handles, Live, Snapshot, compile};

/// Loads tables and publishes them.
pub struct Reloader {
    source: PathBuf,
    last_good: PathBuf,
    env: Env,
    handles: Handles,
    clock: Clock,
    audit: Audit,
    /// The text in force; also what makes two reloads take turns.
    current: Mutex<Option<String>>,
}

/// What came of a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloaded {
    /// The table of this generation is in force.
    Published(u64),
    /// The file, and the TLS files that it names, say what is in force already.
    Unchanged,
}

impl Reloader {
    /// Tables come from `source`; a copy of the one in force is kept at `last_good`.
    pub fn new(
        source: PathBuf,
        last_good: PathBuf,
        env: Env,
        handles: Handles,
        clock: Clock,
        audit: Audit,
    ) -> Reloader {
        Reloader { source, last_good, env, handles, clock, audit, current: Mutex::new(None) }
    }

    /// Loads the first table. With `or_last_good` a bad file is said, and the table that was in force last is taken.
    pub fn start(&self, or_last_good: bool) -> anyhow::Result<Live> {
        let mut current = self.current.lock();
        let (text, snapshot, current_file) = match self.first(&self.source) {
            Ok((text, snapshot)) => (text, snapshot, true),
            Err(problems) if or_last_good => {
                let (text, snapshot) = self.fall_back(&problems)?;
                (text, snapshot, false)
            }
            Err(problems) => return Err(problems.into()),
        };
        self.handles.registry.publish(&snapshot.pools);
        if current_file {
            self.succeeded(&text, 1);
        } else {
            self.handles.metrics.config_loaded(1, self.clock.wall());
            self.handles.metrics.config_failed();
        }
        *current = Some(text);
        Ok(Live::new(snapshot))
    }

    fn first(&self, file: &Path) -> Result<(String, Snapshot), Problems> {
        let name = file.display().to_string();
        let text = routes::read(file, &name)?;
        let snapshot = self.build(&name, routes::parse(&name, &text, &self.env)?, 1)?;
        Ok((text, snapshot))
    }

    /// The kept table, in the place of one with these problems.
    fn fall_back(&self, problems: &Problems) -> anyhow::Result<(String, Snapshot)> {
        for problem in &problems.0 {
            tracing::error!(%problem, "routes refused");
        }
        let kept = self.first(&self.last_good).map_err(|of_kept| {
            anyhow::anyhow!("the table is bad, and so is the last good one:\n{problems}\n{of_kept}")
        })?;
        let file = self.last_good.display();
        tracing::error!(%file, "THE TABLE IS BAD: the last good one is in force; mend the file and send SIGHUP");
        self.tell(format!("refused at the start, the last good table is in force; {} problems", problems.0.len()));
        Ok(kept)
    }

    /// Loads the file again and publishes it, or keeps what is in force and says why. Blocks; not for the proxy's threads.
    pub fn reload(&self, live: &Arc<Live>) -> Result<Reloaded, Problems> {
        let mut current = self.current.lock();
        let outcome = self.try_reload(&mut current, live);
        match &outcome {
            Ok(Reloaded::Published(generation)) => {
                tracing::info!(generation, "routes reloaded");
                self.tell(format!("generation {generation} is in force"));
            }
            Ok(Reloaded::Unchanged) => tracing::info!("routes unchanged, nothing to reload"),
            Err(problems) => {
                self.handles.metrics.config_failed();
                let kept = live.load().generation;
                for problem in &problems.0 {
                    tracing::error!(generation_kept = kept, problem = %problem, "routes refused, the table in force stays");
                }
                let (count, first) =
                    (problems.0.len(), problems.0.first().map(ToString::to_string).unwrap_or_default());
                self.tell(format!("refused, generation {kept} stays; {count} problems: {first}"));
            }
        }
        outcome
    }

    /// Records what came of a reload.
    fn tell(&self, details: String) {
        self.audit.record(Event::new(EventKind::ConfigReload).by(Actor::CommandLine).saying(details));
    }

    fn try_reload(&self, current: &mut Option<String>, live: &Live) -> Result<Reloaded, Problems> {
        let name = self.source.display().to_string();
        let text = routes::read(&self.source, &name)?;
        let checked = routes::parse(&name, &text, &self.env)?;
        // The files of `pools.NAME.tls` are read with the table: they may change while its text does not.
        if current.as_ref() == Some(&text) && live.load().spec.pools == checked.spec.pools {
            self.succeeded(&text, live.load().generation);
            return Ok(Reloaded::Unchanged);
        }
        let generation = live.load().generation + 1;
        let snapshot = self.build(&name, checked, generation)?;
        let pools = snapshot.pools.clone();
        live.publish(snapshot);
        self.handles.registry.publish(&pools);
        self.succeeded(&text, generation);
        *current = Some(text);
        Ok(Reloaded::Published(generation))
    }

    fn build(&self, name: &str, checked: Checked, generation: u64) -> Result<Snapshot, Problems> {
        for warning in &checked.warnings {
            tracing::warn!(%warning, "routes");
        }
        compile(name, checked, generation, &self.handles)
    }

    fn succeeded(&self, text: &str, generation: u64) {
        if let Err(error) = whole_file::write(&self.last_good, text.as_bytes()) {
            tracing::warn!(file = %self.last_good.display(), %error, "the last good table could not be kept");
        }
        self.handles.metrics.config_loaded(generation, self.clock.wall()); // who sees this may rely on the copy
    }
}
