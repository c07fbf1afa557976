//! How the engine starts containers: one runtime for calls that ask for none, and those that calls may ask for. A name of a user's
//! never gets further than the comparison here.

use super::error::{ClaimError, OpenError};
use crate::engine::EngineFacts;
use crate::settings::Settings;

/// What the operator lets calls choose from.
#[derive(Debug)]
pub struct Runtimes {
    /// As the engine calls the one of calls that ask for none.
    default: String,
    /// The others.
    allowed: Vec<String>,
}

impl Runtimes {
    /// As the settings say, if the engine has them all.
    pub fn new(settings: &Settings, facts: &EngineFacts) -> Result<Runtimes, OpenError> {
        let named = settings.runtime.iter().chain(&settings.allow_runtime);
        if let Some(runtime) = named.clone().find(|name| !facts.runtimes.contains(name)) {
            let there = facts.runtimes.clone();
            return Err(OpenError::NoRuntime { runtime: runtime.clone(), there });
        }
        let default = settings.runtime.as_ref().unwrap_or(&facts.default_runtime).clone();
        let mut allowed = settings.allow_runtime.clone();
        allowed.retain(|name| *name != default);
        Ok(Runtimes { default, allowed })
    }

    /// That of calls that ask for none.
    pub fn default(&self) -> &str {
        &self.default
    }

    /// All that calls may ask for, the default first.
    pub fn names(&self) -> Vec<String> {
        std::iter::once(&self.default).chain(&self.allowed).cloned().collect()
    }

    /// What a call's containers are started with, if not as by default.
    pub fn of_call(&self, asked: Option<&str>) -> Result<Option<String>, ClaimError> {
        match asked {
            None => Ok(None),
            Some(name) if name == self.default => Ok(None),
            Some(name) => match self.allowed.iter().find(|allowed| *allowed == name) {
                Some(allowed) => Ok(Some(allowed.clone())),
                None => {
                    Err(ClaimError::NoSuchRuntime { runtime: name.into(), there: self.names() })
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(default: Option<&str>, allowed: &[&str]) -> Result<Runtimes, OpenError> {
        let settings = Settings {
            runtime: default.map(str::to_owned),
            allow_runtime: allowed.iter().map(|&name| name.to_owned()).collect(),
            ..crate::settings::for_tests(2)
        };
        let facts = EngineFacts {
            folder: "/var/lib/docker".into(),
            version: "20.10.24".into(),
            systemd_cgroups: false,
            swap_limit: true,
            runtimes: ["runc", "runsc", "kata"].map(str::to_owned).into(),
            default_runtime: "runc".into(),
        };
        Runtimes::new(&settings, &facts)
    }

    #[test]
    fn a_call_gets_the_default_or_what_the_operator_allows_and_nothing_else() {
        let runtimes = opened(None, &["runsc", "runc"]).expect("the engine has them");
        assert_eq!(runtimes.names(), ["runc", "runsc"]);
        for (asked, got) in [(None, None), (Some("runc"), None), (Some("runsc"), Some("runsc"))] {
            assert_eq!(runtimes.of_call(asked).expect("allowed").as_deref(), got);
        }
        let error = runtimes.of_call(Some("kata")).expect_err("not allowed");
        assert!(error.is_final());
        let told = error.to_call_error();
        assert_eq!(told.code, "no_such_runtime");
        assert!(told.action.contains("runc, runsc"), "{}", told.action);
    }

    #[test]
    fn the_engines_own_is_not_there_for_calls_where_the_operator_chose_another() {
        let runtimes = opened(Some("runsc"), &[]).expect("the engine has it");
        assert_eq!((runtimes.default(), runtimes.names()), ("runsc", vec!["runsc".to_owned()]));
        assert!(runtimes.of_call(Some("runc")).is_err());
    }

    #[test]
    fn a_runtime_that_the_engine_has_not_is_refused_at_the_start() {
        for (default, allowed) in [(Some("gvisor"), &[][..]), (None, &["runsc", "gvisor"])] {
            let error = opened(default, allowed).expect_err("the engine has no such runtime");
            assert!(error.to_string().contains("gvisor"));
        }
    }
}
