//! Reading the configuration again, on SIGHUP (agent.md 10.2 and 20.3).
//!
//! Decides what of it counts at once: log level, handlers, tags, and what signals mean; of all else it only says
//! that a restart is needed, or would be refused. Carrying it out is the agent's. Invariant: files that cannot be
//! read, handlers and discovery that are wrong change nothing; of a bad log level only the level is refused.

use crate::config::settings::{self, Merged};
use crate::config::{Config, File, RELOADED};
use crate::handler::Handler;
use crate::io::ConfigFile;
use crate::keeping::TagChange;
use std::collections::BTreeSet;
use villein_core::member::Tags;
use villein_core::note::Level;
use villein_core::text::Text;

/// Tags that belong to the configuration: all others were set while the agent ran, and stay.
#[derive(Debug)]
pub(crate) struct Reloading {
    mentioned: BTreeSet<Text>,
}

/// What a new configuration changes.
#[derive(Debug)]
pub(crate) struct Plan {
    /// To be said first.
    pub(crate) notices: Vec<String>,
    /// Or why the old one stays.
    pub(crate) log_level: Result<Level, String>,
    pub(crate) handlers: Vec<Handler>,
    /// `None` if they are right already; or why they stay.
    pub(crate) tags: Result<Option<TagChange>, String>,
    pub(crate) leave_on_terminate: bool,
    pub(crate) skip_leave_on_interrupt: bool,
    /// For the log.
    pub(crate) warnings: Vec<String>,
}

impl Reloading {
    /// For an agent that starts with this configuration.
    pub(crate) fn new(config: &Config) -> Reloading {
        let tags = settings::tags(&config.sources.merged).unwrap_or_default();
        Reloading { mentioned: tags.into_keys().collect() }
    }

    /// What follows from these files, for an agent with these tags. `Err` is the message for the operator.
    pub(crate) fn plan(
        &mut self,
        files: &[ConfigFile],
        config: &Config,
        current: &Tags,
    ) -> Result<Plan, String> {
        let Merged { file, skipped } = settings::merge(files, &config.sources.flags)?;
        let handlers = settings::handlers(&file)?;
        settings::discovery(&file)?;
        let mut warnings = skipped;
        warnings.extend(refused_later(&file));
        let waiting = config.sources.merged.keys_for_a_restart(&file);
        if !waiting.is_empty() {
            warnings.push(format!("only a restart changes these settings: {}", waiting.join(", ")));
        }
        Ok(Plan {
            notices: settings::notices(&file).into_iter().map(|(_, text)| text).collect(),
            log_level: settings::log_level(&file),
            handlers,
            tags: self.change_of_tags(&file, current),
            leave_on_terminate: file.leave_on_terminate == Some(true),
            skip_leave_on_interrupt: file.skip_leave_on_interrupt == Some(true),
            warnings,
        })
    }

    /// With a tags file the tags are those of the file, which only commands change.
    fn change_of_tags(&mut self, file: &File, current: &Tags) -> Result<Option<TagChange>, String> {
        let set = settings::tags(file)?;
        let gone = |name: &&Text| !set.contains_key(*name);
        let delete: Vec<Text> = self.mentioned.iter().filter(gone).cloned().collect();
        self.mentioned.extend(set.keys().cloned());
        let is_there = set.iter().all(|(name, value)| current.get(name) == Some(value));
        let is_done = is_there && !delete.iter().any(|name| current.contains_key(name));
        Ok((!is_done).then_some(TagChange { delete, set }))
    }
}

/// Why the next start fails with these settings, as far as it was not told already because it counts at once.
fn refused_later(file: &File) -> impl Iterator<Item = String> + use<> {
    let needs_no_facility = settings::syslog(file).is_ok();
    let problems = settings::problems(file).into_iter().chain(settings::conflicts(file));
    let problems = problems.filter(move |problem| match problem.key.as_str() {
        "tags_file" => false,
        "syslog_facility" => !needs_no_facility,
        key => !RELOADED.contains(&key),
    });
    problems.map(|problem| format!("a restart would be refused: '{}': {}", problem.key, problem.reason))
}
