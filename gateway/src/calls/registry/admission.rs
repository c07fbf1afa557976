//! Admission: whether a call may run at all, on the hosts there are, and in which image.
//!
//! It looks at what hosts are, not at what is free on them: a call that fits somewhere waits for its turn. What it refuses can never run as things are, and the error says what there is instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Calls;
use crate::calls::NewCall;
use crate::images;
use crate::secrets::SecretsError;
use crate::shares;

/// Why a call was not admitted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AdmitError {
    /// No host is connected.
    #[error("no host is connected")]
    NoHosts,
    /// No host has its shares.
    #[error("no host has the shares of the call")]
    NoSuchShare(shares::Missing),
    /// One worker is larger than any host.
    #[error("no host has {asked_cpu} cores and {asked_ram} bytes of memory")]
    TooLarge {
        /// Cores asked for.
        asked_cpu: f64,
        /// Memory asked for, in bytes.
        asked_ram: u64,
        /// The largest host: name, cores, bytes of memory.
        largest: Option<(String, f64, u64)>,
    },
    /// No host has the image, and none may pull it.
    #[error("no host has the image {image}")]
    NoSuchImage {
        /// The image asked for.
        image: String,
        /// The images there are.
        there: Vec<String>,
    },
    /// No host lets calls choose the runtime.
    #[error("no host starts containers with {runtime}")]
    NoSuchRuntime {
        /// The runtime asked for.
        runtime: String,
        /// Those that calls may ask for.
        there: Vec<String>,
    },
    /// No default image has the Python that the pickles need.
    #[error("no image has Python {python}")]
    NoImageForPython {
        /// The minor version asked for.
        python: String,
        /// The images there are.
        there: Vec<String>,
    },
    /// The image's Python is not the one that the pickles need.
    #[error("the image {image} has Python {has}, the call needs {wants}")]
    PythonMismatch {
        /// The image asked for.
        image: String,
        /// The minor version it has.
        has: String,
        /// The minor version asked for.
        wants: String,
        /// Images that fit.
        fitting: Vec<String>,
    },
    /// The owner has no such secrets.
    #[error("there is no secret {}", names.join(", "))]
    UnknownSecrets {
        /// Their names.
        names: Vec<String>,
    },
    /// A function made a call too deep.
    #[error("calls of functions may be nested {limit} deep")]
    TooDeep {
        /// What may be.
        limit: u32,
    },
    /// A call's functions made too many calls.
    #[error("functions of one call may have {limit} calls running")]
    TooManyChildren {
        /// What may be.
        limit: usize,
    },
    /// There are as many calls as may be.
    #[error("the gateway has as many calls as it takes")]
    Full,
    /// A background call cannot be kept.
    #[error("no space left to keep calls")]
    NoSpace,
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

impl Calls {
    /// Whether the call's parent may have it.
    fn admit_child(&self, new: &NewCall) -> Result<(), AdmitError> {
        let Some(parent) = &new.parent else { return Ok(()) };
        let (family, config) = (&parent.shared.family, &self.shared.config);
        if family.depth >= config.nested_depth {
            return Err(AdmitError::TooDeep { limit: config.nested_depth });
        }
        if family.children() >= config.nested_calls {
            return Err(AdmitError::TooManyChildren { limit: config.nested_calls });
        }
        Ok(())
    }

    /// Whether the call can run on the hosts there are; gives its image.
    pub(super) fn admit(&self, new: &NewCall) -> Result<String, AdmitError> {
        self.admit_child(new)?;
        if let Err(SecretsError::Unknown { names }) =
            self.shared.secrets.check(&new.owner, &new.spec.secrets)
        {
            return Err(AdmitError::UnknownSecrets { names });
        }
        let mut hosts = self.shared.fleet.kinds();
        if hosts.is_empty() {
            return Err(AdmitError::NoHosts);
        }
        if let Some(runtime) = &new.spec.runtime {
            let allowing: Vec<_> =
                hosts.iter().filter(|host| host.runtimes.contains(runtime)).cloned().collect();
            if allowing.is_empty() {
                let there = hosts.iter().flat_map(|host| host.runtimes.clone());
                let there = there.collect::<BTreeSet<_>>().into_iter().collect();
                return Err(AdmitError::NoSuchRuntime { runtime: runtime.clone(), there });
            }
            hosts = Arc::new(allowing);
        }
        if !new.spec.shares.is_empty() {
            let with = shares::hosts_with(&hosts, &new.spec.shares);
            hosts = Arc::new(with.map_err(AdmitError::NoSuchShare)?);
        }
        let (cpu, ram) = (new.spec.cpu, new.spec.ram_bytes);
        if !hosts.iter().any(|host| host.cores + 1e-6 >= cpu && host.ram_bytes >= ram) {
            let largest = hosts.iter().max_by(|a, b| {
                (a.cores, a.ram_bytes)
                    .partial_cmp(&(b.cores, b.ram_bytes))
                    .unwrap_or(std::cmp::Ordering::Equal)
            });
            let largest = largest.map(|host| (host.host.clone(), host.cores, host.ram_bytes));
            return Err(AdmitError::TooLarge { asked_cpu: cpu, asked_ram: ram, largest });
        }
        let python = new.spec.python.as_deref();
        if new.spec.image.is_empty() {
            return images::default_image(&hosts, python).ok_or_else(|| {
                AdmitError::NoImageForPython {
                    python: python.unwrap_or("3").to_owned(),
                    there: images::there(&hosts),
                }
            });
        }
        let image = new.spec.image.clone();
        let there = images::there(&hosts);
        if !hosts.iter().any(|host| host.pull)
            && !there.iter().any(|name| images::same(name, &image))
        {
            return Err(AdmitError::NoSuchImage { image, there });
        }
        match (python, images::python_of(&hosts, &image)) {
            (Some(wants), Some(has)) if wants != has => Err(AdmitError::PythonMismatch {
                image,
                has,
                wants: wants.to_owned(),
                fitting: images::with_python(&hosts, wants),
            }),
            _ => Ok(image),
        }
    }
}
