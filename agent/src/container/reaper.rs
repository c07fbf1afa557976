//! What a crash left: containers, socket folders and cgroups that carry our host's name but that no worker of this process
//! owns. Looked for at the start, on a timer and at the stop, so nothing rests on destructors.

use std::time::Duration;

use super::profile::AGENT_LABEL;
use super::socket::FOLDERS;
use super::{Site, cgroup};
use crate::engine::EngineError;

/// How often leftovers are looked for.
pub const EVERY: Duration = Duration::from_secs(30);
/// Cgroups younger than this may belong to a container that the engine is about to start.
const CGROUP_AGE: Duration = Duration::from_secs(120);

/// Removes every leftover; how many containers there were.
pub async fn sweep(site: &Site) -> Result<usize, EngineError> {
    let mut removed = 0;
    for container in site.engine.containers(AGENT_LABEL, &site.host_name).await? {
        if !site.names.owns(&container.name) {
            tracing::info!(container = container.name, "leftover container removed");
            site.engine.remove(&container.name).await?;
            removed += 1;
        }
    }
    for folder in folders(site) {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !site.names.owns(name)
            && let Err(error) = std::fs::remove_dir_all(&folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "leftover folder not removed");
        }
    }
    if let Some(own) = site.profile.own_cgroup() {
        cgroup::remove_empty(own, CGROUP_AGE);
    }
    Ok(removed)
}

fn folders(site: &Site) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(site.state_dir.join(FOLDERS)) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}
