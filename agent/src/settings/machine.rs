//! What the machine offers.

/// What the machine offers; asked once, so that the rest is pure.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its host name.
    pub name: String,
    /// Cores this process may use, ascending.
    pub cpus: Vec<usize>,
    /// Its memory, in bytes.
    pub ram_bytes: u64,
}

impl Machine {
    /// Asks this machine.
    pub fn this() -> std::io::Result<Machine> {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_string();
        let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
        let cpus = (0..nix::sched::CpuSet::count())
            .filter(|core| set.is_set(*core).unwrap_or(false))
            .collect();
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let kib = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
            .ok_or_else(|| std::io::Error::other("/proc/meminfo has no MemTotal"))?;
        Ok(Machine { name, cpus, ram_bytes: kib * 1024 })
    }
}
