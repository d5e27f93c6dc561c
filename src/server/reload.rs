//! SIGHUP: the whole new table or nothing.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::audit::{Actor, Audit, Event, EventKind};
use crate::clock::Clock;
use crate::config::env::Env;
use crate::config::problem::Problems;
use crate::config::routes;
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
    /// The file says what is in force already.
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

    /// Loads the first table.
    pub fn start(&self) -> Result<Live, Problems> {
        let mut current = self.current.lock();
        let text = routes::read(&self.source, &self.source.display().to_string())?;
        let snapshot = self.build(&text, 1)?;
        self.handles.registry.publish(&snapshot.pools);
        self.succeeded(&text, 1);
        *current = Some(text);
        Ok(Live::new(snapshot))
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
        let text = routes::read(&self.source, &self.source.display().to_string())?;
        if current.as_ref() == Some(&text) {
            self.succeeded(&text, live.load().generation);
            return Ok(Reloaded::Unchanged);
        }
        let generation = live.load().generation + 1;
        let snapshot = self.build(&text, generation)?;
        let pools = snapshot.pools.clone();
        live.publish(snapshot);
        self.handles.registry.publish(&pools);
        self.succeeded(&text, generation);
        *current = Some(text);
        Ok(Reloaded::Published(generation))
    }

    fn build(&self, text: &str, generation: u64) -> Result<Snapshot, Problems> {
        let name = self.source.display().to_string();
        let checked = routes::parse(&name, text, &self.env)?;
        for warning in &checked.warnings {
            tracing::warn!(%warning, "routes");
        }
        compile(&name, checked, generation, &self.handles)
    }

    fn succeeded(&self, text: &str, generation: u64) {
        self.handles.metrics.config_loaded(generation, self.clock.wall());
        let temporary = self.last_good.with_extension("tmp");
        let kept = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, &self.last_good));
        if let Err(error) = kept {
            tracing::warn!(file = %self.last_good.display(), %error, "the last good table could not be kept");
        }
    }
}
