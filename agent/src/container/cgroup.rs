//! A worker's own cgroup: limits are written straight into it when it is claimed (a millisecond less than asking the
//! engine, and no lock of the engine's in the way), and what it did with its memory is read from it.
//!
//! Where it is, the kernel says (`/proc/PID/cgroup`), so version 1 and 2, and the cgroupfs and systemd drivers, are the same
//! to us. It is gone as soon as the container has stopped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use cgroups_rs::fs::cgroup::get_cgroups_relative_paths_by_pid;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::hierarchies;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::{Cgroup, Controller};

use crate::capacity::Millis;

const PERIOD_US: u64 = 100_000;
/// The longest gauge, `cpu.stat`, has about 20 lines.
const GAUGE_BYTES: usize = 4096;

/// A limit could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel or the mounts do not have it.
    #[error("this host has no cgroup controller {0}")]
    NoController(&'static str),
    /// The kernel refused.
    #[error("writing {what} into a worker's cgroup failed")]
    Write {
        /// Which limit.
        what: &'static str,
        /// Why.
        #[source]
        source: cgroups_rs::fs::error::Error,
    },
    /// The process or its cgroup is gone.
    #[error("the cgroup of process {pid} cannot be found")]
    Gone {
        /// Pid 1 of the container, as the host numbers it.
        pid: u32,
        /// Why.
        #[source]
        source: cgroups_rs::fs::error::Error,
    },
}

/// What a worker did with its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryReport {
    /// How many of its processes were killed for want of memory.
    pub oom_kills: u64,
    /// The most it held, in bytes.
    pub peak_bytes: u64,
    /// What it may hold, in bytes.
    pub limit_bytes: u64,
}

/// What a worker has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Time of cores.
    pub cpu: Duration,
    /// The most memory it held, in bytes.
    pub peak_bytes: u64,
}

/// The cgroup of one container.
#[derive(Debug)]
pub struct WorkerCgroup {
    cgroup: Cgroup,
    memory: PathBuf,
    /// The limit of memory and swap together, where the kernel has one.
    memory_and_swap: Option<PathBuf>,
    peak: Option<Gauge>,
    /// Counts its time; not everywhere.
    time: Option<Gauge>,
    last: Mutex<MemoryReport>,
}

/// A file that is read after every batch: it stays open, as opening costs more than reading.
#[derive(Debug)]
struct Gauge(File);

impl WorkerCgroup {
    /// The one this process is in.
    pub fn of(pid: u32) -> Result<WorkerCgroup, CgroupError> {
        let paths = get_cgroups_relative_paths_by_pid(pid)
            .map_err(|source| CgroupError::Gone { pid, source })?;
        let hierarchy = hierarchies::auto();
        let cgroup = match paths.get("") {
            Some(path) if hierarchy.v2() => Cgroup::load(hierarchy, path.trim_start_matches('/')),
            // "." keeps the path the kernel gave for each controller; an empty one would mean the root.
            _ => Cgroup::load_with_relative_paths(hierarchy, ".", paths),
        };
        let memory = controller::<MemController>(&cgroup, "memory")?.path().to_path_buf();
        let (time, peak) = match cgroup.v2() {
            true => (Some(memory.join("cpu.stat")), memory.join("memory.peak")),
            false => {
                let counted = controller::<CpuAcctController>(&cgroup, "cpuacct").ok();
                let time = counted.map(|found| found.path().join("cpuacct.usage"));
                (time, memory.join("memory.max_usage_in_bytes"))
            }
        };
        let memory_and_swap = memory.join("memory.memsw.limit_in_bytes");
        Ok(WorkerCgroup {
            time: time.as_deref().and_then(Gauge::open),
            peak: Gauge::open(&peak),
            memory_and_swap: memory_and_swap.exists().then_some(memory_and_swap),
            memory,
            cgroup,
            last: Mutex::default(),
        })
    }

    /// Writes the limits; `cores` is a list as the kernel writes it.
    pub fn limit(&self, cpu: Millis, cores: &str, ram_bytes: u64) -> Result<(), CgroupError> {
        let failed = |what| move |source| CgroupError::Write { what, source };
        let quota = (cpu * PERIOD_US / 1000) as i64;
        controller::<CpuController>(&self.cgroup, "cpu")?
            .set_cfs_quota_and_period(Some(quota), Some(PERIOD_US))
            .map_err(failed("the share of cores"))?;
        controller::<CpuSetController>(&self.cgroup, "cpuset")?
            .set_cpus(cores)
            .map_err(failed("the list of cores"))?;
        self.limit_memory(ram_bytes).map_err(failed("the memory limit"))?;
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        last.limit_bytes = ram_bytes;
        Ok(())
    }

    /// What it did with its memory so far. Once the container has stopped: what was last seen.
    pub fn memory(&self) -> MemoryReport {
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = if self.cgroup.v2() { "memory.events" } else { "memory.oom_control" };
        let events = std::fs::read_to_string(self.memory.join(name));
        if let Some(kills) = events.ok().and_then(|text| count_after(&text, "oom_kill ")) {
            last.oom_kills = last.oom_kills.max(kills);
        }
        last.peak_bytes = last.peak_bytes.max(self.peak_bytes());
        *last
    }

    /// What it has used so far. Cheap: two small files of the kernel's.
    pub fn used(&self) -> Used {
        Used { cpu: self.cpu(), peak_bytes: self.peak_bytes() }
    }

    /// Time of cores that it has used so far.
    pub fn cpu(&self) -> Duration {
        let Some(time) = &self.time else { return Duration::ZERO };
        let used = match self.cgroup.v2() {
            true => time.read(|text| count_after(text, "usage_usec ")).map(Duration::from_micros),
            false => time.read(number).map(Duration::from_nanos),
        };
        used.unwrap_or_default()
    }

    fn peak_bytes(&self) -> u64 {
        self.peak.as_ref().and_then(|peak| peak.read(number)).unwrap_or_default()
    }

    /// Version 1 counts memory and memory-plus-swap, and refuses a moment in which the sum is below the part: when
    /// raising, the sum goes first. Version 2 counts swap alone, and the engine has set it to none.
    fn limit_memory(&self, ram_bytes: u64) -> cgroups_rs::fs::error::Result<()> {
        let Some(memory) = self.cgroup.controller_of::<MemController>() else { return Ok(()) };
        let limit = ram_bytes as i64;
        let Some(sum) = &self.memory_and_swap else { return memory.set_limit(limit) };
        let now = std::fs::read_to_string(sum).ok().and_then(|text| number(&text));
        if now.is_some_and(|now| now < ram_bytes) {
            memory.set_memswap_limit(limit)?;
            memory.set_limit(limit)
        } else {
            memory.set_limit(limit)?;
            memory.set_memswap_limit(limit)
        }
    }
}

impl Gauge {
    fn open(path: &Path) -> Option<Gauge> {
        File::open(path).ok().map(Gauge)
    }

    /// What `parse` finds in it; nothing once the cgroup is gone.
    fn read(&self, parse: impl FnOnce(&str) -> Option<u64>) -> Option<u64> {
        let mut bytes = [0; GAUGE_BYTES];
        let count = self.0.read_at(&mut bytes, 0).ok()?;
        parse(std::str::from_utf8(&bytes[..count]).ok()?)
    }
}

/// Removes cgroups below this path of every hierarchy, and the path itself, where nothing lives in them. Best effort: the
/// kernel refuses to remove one that is in use. Only what is older than `age` is touched, because the engine makes a cgroup a
/// moment before it puts a process into it.
pub fn remove_empty(path: &str, age: Duration) {
    let roots = match hierarchies::auto().v2() {
        true => vec![PathBuf::from(hierarchies::UNIFIED_MOUNTPOINT)],
        false => folders(Path::new(hierarchies::UNIFIED_MOUNTPOINT)),
    };
    for root in roots {
        let ours = root.join(path);
        for cgroup in folders(&ours) {
            let old = std::fs::metadata(&cgroup)
                .and_then(|made| made.modified())
                .is_ok_and(|made| made.elapsed().is_ok_and(|since| since >= age));
            if old {
                let _ = std::fs::remove_dir(&cgroup);
            }
        }
        if age.is_zero() {
            let _ = std::fs::remove_dir(&ours);
            let _ = ours.parent().filter(|parent| *parent != root).map(std::fs::remove_dir);
        }
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(of) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn controller<'a, T>(cgroup: &'a Cgroup, name: &'static str) -> Result<&'a T, CgroupError>
where
    &'a T: From<&'a cgroups_rs::fs::Subsystem>,
    T: Controller + cgroups_rs::fs::ControllIdentifier,
{
    cgroup.controller_of::<T>().ok_or(CgroupError::NoController(name))
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The count after `key` in lines of "key number".
fn count_after(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counts_is_read_again_and_again() {
        let path = std::env::temp_dir().join(format!("muster-gauge-{}", std::process::id()));
        let stat = |usage: u64| format!("usage_usec {usage}\nuser_usec 1\n");
        std::fs::write(&path, stat(7)).expect("written");
        let gauge = Gauge::open(&path).expect("there");
        let usage = || gauge.read(|text| count_after(text, "usage_usec "));
        assert_eq!(usage(), Some(7));
        std::fs::write(&path, stat(19)).expect("written");
        assert_eq!(usage(), Some(19));
        std::fs::write(&path, " 4096\n").expect("written");
        assert_eq!((gauge.read(number), usage()), (Some(4096), None));
        std::fs::remove_file(&path).expect("removed");
        assert!(Gauge::open(&path).is_none(), "a kernel without this file");
    }
}
