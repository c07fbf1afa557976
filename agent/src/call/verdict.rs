//! Pure: what an input's failure is called when its worker died.

use muster_wire::message::{ExceptionHead, Exit, Failure};
use nix::sys::signal::Signal;

use crate::container::MemoryReport;

const SIGKILL: i32 = Signal::SIGKILL as i32;
/// What shells exit with when their command was killed by SIGKILL.
const SHELL_SIGKILL: i32 = 128 + SIGKILL;

/// Why the worker is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Death {
    /// It ended by itself, or the system ended it.
    Exit(Exit),
    /// What keeps containers alive failed under it.
    Lost,
    /// We killed it, because the input ran for longer than this.
    Timeout {
        /// The limit, in milliseconds.
        timeout_ms: u64,
    },
    /// We killed it, because it did not keep to the protocol.
    Hostile {
        /// In which way.
        why: String,
    },
}

impl Death {
    /// Whether it came from outside: only signals do, and with SIGKILL pid 1 cannot say so.
    pub fn is_from_outside(&self) -> bool {
        match self {
            Death::Exit(exit) => {
                let by = exit.signal.unwrap_or(SIGKILL);
                exit.exit_code.is_none() && (by == SIGKILL || by == Signal::SIGTERM as i32)
            }
            _ => false,
        }
    }
}

/// The failure of the input that was running. `oom_kills` is what the cgroup had counted before.
pub fn failure(death: &Death, oom_kills: u64, memory: MemoryReport, host: &str) -> Failure {
    let host = Some(host.to_owned());
    match death {
        Death::Lost => Failure {
            code: "lost".into(),
            message: "the container engine of the host failed while it ran this input".into(),
            host,
            ..Failure::default()
        },
        Death::Timeout { timeout_ms } => Failure {
            code: "timeout".into(),
            message: format!("the input ran for longer than {} s", *timeout_ms as f64 / 1000.0),
            timeout_ms: Some(*timeout_ms),
            host,
            ..Failure::default()
        },
        Death::Hostile { why } => Failure {
            code: "worker_died".into(),
            message: format!("the worker was killed: {why}"),
            signal: Some(SIGKILL),
            host,
            ..Failure::default()
        },
        Death::Exit(exit) => {
            // Without an exit pid 1 itself is gone: only SIGKILL does that.
            let signal = exit.signal.or(exit.exit_code.is_none().then_some(SIGKILL));
            if signal == Some(SIGKILL) && memory.oom_kills > oom_kills {
                return Failure { host, ..out_of_memory(memory) };
            }
            let how = match (exit.exit_code, signal) {
                (Some(code), _) => format!("exited with code {code}"),
                (None, Some(number)) => format!("was ended by {}", signal_name(number)),
                (None, None) => "ended".into(),
            };
            Failure {
                code: "worker_died".into(),
                message: format!("the worker {how} while it ran this input"),
                exit_code: exit.exit_code,
                signal: exit.exit_code.is_none().then_some(signal).flatten(),
                host,
                ..Failure::default()
            }
        }
    }
}

/// Whether a command's exception may be due to the memory limit: it, or what a shell ran for it, got SIGKILL.
pub fn looks_killed(item: &[u8]) -> bool {
    ExceptionHead::of_item(item)
        .is_ok_and(|head| head.signal == Some(SIGKILL) || head.exit_code == Some(SHELL_SIGKILL))
}

/// The failure of an input that needed more memory than it may.
pub fn out_of_memory(memory: MemoryReport) -> Failure {
    Failure {
        code: "out_of_memory".into(),
        message: format!(
            "the worker ran out of memory: its limit is {}, its peak was {}",
            gib(memory.limit_bytes),
            gib(memory.peak_bytes)
        ),
        limit_bytes: Some(memory.limit_bytes),
        peak_bytes: Some(memory.peak_bytes),
        ..Failure::default()
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / f64::from(1 << 30))
}

fn signal_name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => format!("signal {number} ({})", signal.as_str()),
        Err(_) => format!("signal {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: MemoryReport =
        MemoryReport { oom_kills: 1, peak_bytes: 1 << 30, limit_bytes: 1 << 30 };

    fn exit(exit_code: Option<i32>, signal: Option<i32>) -> Death {
        Death::Exit(Exit { exit_code, signal, error: None })
    }

    #[test]
    fn a_kill_while_the_count_of_oom_kills_rose_is_out_of_memory() {
        for death in [exit(None, Some(9)), exit(None, None)] {
            let failure = failure(&death, 0, MEMORY, "h");
            assert_eq!(failure.code, "out_of_memory");
            assert_eq!((failure.limit_bytes, failure.peak_bytes), (Some(1 << 30), Some(1 << 30)));
            assert_eq!(failure.host.as_deref(), Some("h"));
        }
    }

    #[test]
    fn other_ends_name_the_code_or_the_signal() {
        let segfault = failure(&exit(None, Some(11)), 0, MEMORY, "h");
        assert_eq!((segfault.code.as_str(), segfault.signal), ("worker_died", Some(11)));
        assert!(segfault.message.contains("SIGSEGV"), "{}", segfault.message);
        let code = failure(&exit(Some(3), None), 0, MEMORY, "h");
        assert_eq!(
            (code.code.as_str(), code.exit_code, code.signal),
            ("worker_died", Some(3), None)
        );
        let killed = failure(&exit(None, Some(9)), 1, MEMORY, "h");
        assert_eq!((killed.code.as_str(), killed.signal), ("worker_died", Some(9)));
    }

    #[test]
    fn what_comes_from_outside_is_a_signal_that_stops() {
        for from_outside in [exit(None, None), exit(None, Some(9)), exit(None, Some(15))] {
            assert!(from_outside.is_from_outside(), "{from_outside:?}");
        }
        for own in [exit(Some(1), None), exit(None, Some(11)), Death::Timeout { timeout_ms: 1 }] {
            assert!(!own.is_from_outside(), "{own:?}");
        }
        assert_eq!(failure(&Death::Lost, 0, MEMORY, "h").code, "lost");
    }

    #[test]
    fn a_timeout_says_its_limit() {
        let timeout = failure(&Death::Timeout { timeout_ms: 1500 }, 0, MEMORY, "h");
        assert_eq!((timeout.code.as_str(), timeout.timeout_ms), ("timeout", Some(1500)));
        assert!(timeout.message.contains("1.5 s"), "{}", timeout.message);
    }

    #[test]
    fn a_shell_whose_command_was_killed_looks_killed() {
        let item = |exit_code, signal| {
            ExceptionHead { exit_code, signal, ..ExceptionHead::default() }.to_item()
        };
        assert!(looks_killed(&item(Some(137), None)));
        assert!(looks_killed(&item(None, Some(9))));
        assert!(!looks_killed(&item(Some(1), None)));
        assert!(!looks_killed(b"nonsense"));
    }
}
