//! `gateway.yaml` at a reload: its settings last as long as the process, so what has changed is said.

use crate::config::env::Env;
use crate::config::on_reload;
use crate::config::settings::Settings;

use super::SettingsFile;

/// Looks whether the settings file still says what is in force.
pub struct SettingsWatch {
    file: SettingsFile,
    env: Env,
}

impl SettingsWatch {
    /// Compares with what `file` said at the start.
    pub fn new(file: SettingsFile, env: Env) -> SettingsWatch {
        SettingsWatch { file, env }
    }

    /// Says each setting that has changed since the start. Blocks; not for the proxy's threads.
    pub fn look(&self) {
        match Settings::load(self.file.path.as_deref(), &self.env) {
            Ok(settings) => {
                for setting in on_reload::changed(&self.file.read, &settings) {
                    tracing::warn!(setting, "a setting has changed; it needs a restart or an upgrade");
                }
            }
            Err(problems) => {
                for problem in &problems.0 {
                    tracing::warn!(%problem, "the settings are bad; the next start would be refused");
                }
            }
        }
    }
}
