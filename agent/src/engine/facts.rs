//! What an engine says of itself.

use std::path::PathBuf;

use bollard::models::SystemInfo;

/// What is known about the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its version, like `20.10.24`.
    pub version: String,
    /// Whether systemd makes its cgroups.
    pub systemd_cgroups: bool,
    /// Whether the kernel has user-space swap accounting; without it `MemorySwap` only warns.
    pub swap_limit: bool,
    /// The runtimes it can start containers with.
    pub runtimes: Vec<String>,
    /// That which it takes when none is named.
    pub default_runtime: String,
    /// Where it keeps what is its own.
    pub folder: PathBuf,
}

/// What it is made of, for `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineAbout {
    /// What is always asked.
    pub facts: EngineFacts,
    /// Version of its runc.
    pub runc: Option<String>,
    /// Version of its containerd.
    pub containerd: Option<String>,
    /// Whether containers outlive it.
    pub live_restore: bool,
    /// Its security options, like `name=seccomp,profile=default`.
    pub security: Vec<String>,
}

impl EngineFacts {
    /// Whether its default seccomp profile already refuses io_uring and vsock (25.0 and newer).
    pub fn seccomp_is_strict(&self) -> bool {
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        major.is_some_and(|major| major >= 25)
    }
}

impl From<SystemInfo> for EngineFacts {
    fn from(info: SystemInfo) -> EngineFacts {
        let driver = info.cgroup_driver.map(|driver| driver.to_string());
        EngineFacts {
            version: info.server_version.unwrap_or_default(),
            systemd_cgroups: driver.as_deref() == Some("systemd"),
            swap_limit: info.swap_limit.unwrap_or(true),
            runtimes: info.runtimes.map(|known| known.into_keys().collect()).unwrap_or_default(),
            default_runtime: info.default_runtime.unwrap_or_default(),
            folder: info.docker_root_dir.unwrap_or_default().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_before_25_need_our_seccomp_profile() {
        let facts = |version: &str| EngineFacts {
            folder: PathBuf::new(),
            version: version.into(),
            systemd_cgroups: false,
            swap_limit: true,
            runtimes: Vec::new(),
            default_runtime: "runc".into(),
        };
        assert!(!facts("20.10.24+dfsg1").seccomp_is_strict());
        assert!(!facts("").seccomp_is_strict());
        assert!(facts("25.0.0").seccomp_is_strict());
        assert!(facts("28.2.2").seccomp_is_strict());
    }
}
