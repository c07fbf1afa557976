//! Where systemd makes the cgroups: a slice of this agent's own around all its containers. It holds what an engine does not
//! tell systemd about each of them: that there is no swap. Without it a reload of systemd, as any package's installation
//! does, would give every container swap without a limit. It also ends with the agent, which systemd's own slices do not.
//!
//! One slice for each agent: stopping a slice kills all that is in it, so nobody else's containers may be.
//!
//! Best effort: without it containers run, and keep the engine's own limits until systemd reloads.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(30);

/// The slice of the agent with this host name. A dash would be read as a level; host names have no underscore.
pub fn name(host_name: &str) -> String {
    format!("muster_{}.slice", host_name.replace('-', "_"))
}

/// Makes it anew. Whatever a killed agent left in it is killed.
pub async fn renew(slice: &str) {
    remove(slice).await;
    // Transient: nothing of it stays when it has stopped.
    let manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1"];
    let call = ["org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))"];
    let unit = [slice, "replace", "1", "MemorySwapMax", "t", "0", "0"];
    let args = [&["--quiet", "call"][..], &manager, &call, &unit].concat();
    if let Err(why) = run("busctl", &args).await {
        tracing::warn!(
            slice,
            why,
            "systemd did not take our slice: containers may swap once it reloads"
        );
    }
}

/// Stops it; one that is not there is a success.
pub async fn remove(slice: &str) {
    if let Err(why) = run("systemctl", &["--quiet", "stop", slice]).await {
        tracing::debug!(slice, why, "slice not stopped");
    }
}

async fn run(command: &'static str, args: &[&str]) -> Result<(), String> {
    let ended = Command::new(command).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(DEADLINE, ended).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_string()),
        Ok(Err(error)) => Err(format!("{command} could not be run: {error}")),
        Err(_) => Err(format!("{command} did not end within {DEADLINE:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_has_one_level_whatever_the_host_is_called() {
        assert_eq!(name("rack-7-a"), "muster_rack_7_a.slice");
        assert_eq!(name("vm"), "muster_vm.slice");
    }
}
