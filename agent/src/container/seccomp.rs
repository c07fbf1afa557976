//! The system calls a container may make, for engines whose own default is too wide (before 25.0 it allows io_uring and
//! vsock). An allowlist: what is not named here fails with EPERM. Python, threads, subprocesses, numeric libraries, compilers
//! and shell tools need no more than this.
//!
//! Not there on purpose: io_uring, userfaultfd, bpf, perf, keyrings, mounts, new namespaces, ptrace and reading other
//! processes' memory, kernel modules, clocks, handles that open files by number. Sockets only of the internet, of unix and
//! of route queries (which the resolver needs). 32-bit programs are refused as a whole: their system calls are other ones.

use serde_json::{Value, json};

/// ENOSYS: C libraries answer it by falling back from `clone3`, whose flags a filter cannot see, to `clone`.
const ENOSYS: u32 = 38;
/// All flags of `clone` that make a namespace.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// AF_UNIX, AF_INET, AF_INET6, AF_NETLINK.
const FAMILIES: [u64; 4] = [1, 2, 10, 16];
/// Linux, 32-bit addresses kept low, and no random addresses (what `setarch -R` asks for), and "tell me".
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

const FILES: &str = "access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 \
    faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl \
    fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate \
    futimesat getcwd getdents getdents64 getxattr inotify_add_watch inotify_init inotify_init1 \
    inotify_rm_watch ioctl io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit \
    lchown lgetxattr link linkat listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir \
    mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 \
    pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename renameat renameat2 \
    rmdir sendfile setxattr splice stat statfs statx symlink symlinkat sync sync_file_range syncfs \
    tee truncate umask unlink unlinkat utime utimensat utimes vmsplice write writev";

const MEMORY: &str = "brk get_mempolicy madvise map_shadow_stack mbind membarrier memfd_create \
    mincore mlock mlock2 mlockall mmap mprotect mremap mseal msync munlock munlockall munmap \
    pkey_alloc pkey_free pkey_mprotect remap_file_pages set_mempolicy shmat shmctl shmdt shmget";

const PROCESSES: &str = "alarm arch_prctl capget capset execve execveat exit exit_group fork \
    futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu \
    getegid geteuid getgid getgroups getitimer getpgid getpgrp getpid getppid getpriority \
    getresgid getresuid getrlimit getrusage getsid gettid getuid ioprio_get ioprio_set kill \
    pause pidfd_open pidfd_send_signal prctl prlimit64 restart_syscall rseq rt_sigaction \
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity \
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity \
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list \
    set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid \
    setpriority setregid setresgid setresuid setreuid setrlimit setsid setuid sigaltstack \
    tgkill tkill vfork wait4 waitid";

const WAITING: &str = "clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 \
    epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 gettimeofday mq_getsetattr \
    mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd nanosleep \
    poll ppoll pselect6 select semctl semget semop semtimedop signalfd signalfd4 time \
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create \
    timerfd_gettime timerfd_settime times";

const NETWORK: &str = "accept accept4 bind connect getpeername getsockname getsockopt listen \
    recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketpair";

const REST: &str = "getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self \
    sysinfo uname";

/// The profile, as `SecurityOpt` takes it after `seccomp=`.
pub fn profile() -> String {
    let names: Vec<&str> = [FILES, MEMORY, PROCESSES, WAITING, NETWORK, REST]
        .iter()
        .flat_map(|group| group.split_whitespace())
        .collect();
    let mut rules = vec![
        json!({"names": names, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}),
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}),
    ];
    rules.extend(FAMILIES.map(|family| only("socket", family)));
    rules.extend(PERSONALITIES.map(|persona| only("personality", persona)));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
        ],
        "syscalls": rules,
    })
    .to_string()
}

/// Allows a system call when its first argument is this value.
fn only(name: &str, value: u64) -> Value {
    json!({"names": [name], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<String> {
        let profile: Value = serde_json::from_str(&profile()).expect("JSON");
        let rules = profile["syscalls"].as_array().expect("rules");
        rules
            .iter()
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW" && rule["args"].is_null())
            .flat_map(|rule| rule["names"].as_array().expect("names").clone())
            .map(|name| name.as_str().expect("a name").to_string())
            .collect()
    }

    #[test]
    fn dangerous_calls_are_not_allowed() {
        let allowed = allowed();
        for name in [
            "io_uring_setup",
            "userfaultfd",
            "bpf",
            "perf_event_open",
            "keyctl",
            "add_key",
            "request_key",
            "mount",
            "umount2",
            "move_mount",
            "fsopen",
            "open_tree",
            "pivot_root",
            "unshare",
            "setns",
            "clone",
            "clone3",
            "socket",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "init_module",
            "finit_module",
            "kexec_load",
            "reboot",
            "open_by_handle_at",
            "name_to_handle_at",
            "swapon",
            "settimeofday",
            "clock_settime",
            "iopl",
            "ioperm",
            "chroot",
            "pidfd_getfd",
            "kcmp",
            "quotactl",
            "acct",
            "vhangup",
        ] {
            assert!(!allowed.contains(&name.to_string()), "{name} is allowed");
        }
    }

    #[test]
    fn each_call_is_named_once() {
        let mut names = allowed();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(all > 250);
    }
}
