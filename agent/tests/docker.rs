//! Containers on the real engine: limits, posture, network, leftovers.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{GIB, Host, IMAGE, MIB, SOON, command_of, docker, python, python_of, text};
use muster_agent::container::{ClaimError, Wanted, Worker};

const LIMITS: &str = r#"
import os
def read(v1, v2):
    for path in (v1, v2):
        try:
            return open("/sys/fs/cgroup/" + path).read().split()
        except FileNotFoundError:
            pass
quota = read("cpu/cpu.cfs_quota_us", "cpu.max")[0]
memory = read("memory/memory.limit_in_bytes", "memory.max")[0]
swap = read("memory/memory.memsw.limit_in_bytes", "memory.swap.max")[0]
print(len(os.sched_getaffinity(0)), quota, memory, swap)
"#;

#[tokio::test]
async fn a_claimed_worker_has_exactly_its_limits() {
    let host = Host::open(|_| {}).await;
    for (cpu, ram, cores) in
        [(1.0, 256 * MIB, 1), (0.5, 2 * GIB, host.settings.cpus.len()), (2.0, GIB, 2)]
    {
        let worker = host.claim(cpu, ram).await.expect("a worker");
        let seen = python(&worker, LIMITS).await;
        let quota = (cpu * 100_000.0) as u64;
        let (v1, v2) = (ram, 0);
        assert!(
            seen == format!("{cores} {quota} {ram} {v1}")
                || seen == format!("{cores} {quota} {ram} {v2}"),
            "{cpu} cores and {ram} bytes became {seen}"
        );
        assert_eq!(worker.container.memory().limit_bytes, ram);
        worker.container.stop(worker.runner, Duration::ZERO);
    }
    host.close().await;
}

#[tokio::test]
async fn whole_requests_get_different_cores() {
    let host = Host::open(|settings| settings.cpus.truncate(2)).await;
    let affinity = "import os; print(sorted(os.sched_getaffinity(0)))";
    let first = host.claim(1.0, 128 * MIB).await.expect("a worker");
    let second = host.claim(1.0, 128 * MIB).await.expect("a worker");
    assert_ne!(python(&first, affinity).await, python(&second, affinity).await);
    drop((first, second));
    host.close().await;
}

/// Prints a line for each thing that is not as it must be.
const PROBE: &str = r#"
import ctypes, os, socket, sys
def must(what, holds):
    if not holds: print("broken:", what)
status = dict(l.rstrip("\n").split(":\t", 1) for l in open("/proc/self/status") if ":\t" in l)
must("a user of its own", os.getuid() >= 600000 and os.getgid() == os.getuid())
for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
    must(name + " is empty", int(status[name], 16) == 0)
must("no new privileges", status["NoNewPrivs"] == "1")
must("seccomp filters", status["Seccomp"] == "2")
libc = ctypes.CDLL(None, use_errno=True)
def refused(number, *args):
    ctypes.set_errno(0)
    return libc.syscall(number, *args) == -1 and ctypes.get_errno() in (1, 38)
x86 = os.uname().machine == "x86_64"
calls = {"io_uring_setup": 425, "userfaultfd": 323 if x86 else 282, "bpf": 321 if x86 else 280,
    "keyctl": 250 if x86 else 219, "mount": 165 if x86 else 40, "unshare": 272 if x86 else 97,
    "perf_event_open": 298 if x86 else 241, "ptrace": 101 if x86 else 117, "clone3": 435}
for name, number in calls.items():
    must(name + " is refused", refused(number, 0x10000000, 0, 0, 0, 0))
def fails(what, action):
    try: action()
    except OSError: return
    must(what, False)
fails("mknod of a device is refused", lambda: os.mknod("/tmp/d", 0o20666, os.makedev(1, 3)))
fails("vsock is refused", lambda: socket.socket(40, socket.SOCK_STREAM))
fails("packet sockets are refused", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
fails("/ is read-only", lambda: open("/x", "w"))
fails("the runner is read-only", lambda: open("/.muster/runner/x", "w"))
fails("the socket's folder is read-only", lambda: open("/.muster/socket/x", "w"))
fails("the kernel's settings are read-only", lambda: open("/proc/sys/kernel/core_pattern", "w"))
fails("setuid is refused", lambda: os.setuid(0))
open("/tmp/x", "w").write("fine")
must("/proc/kcore is masked", not os.path.exists("/proc/kcore") or open("/proc/kcore", "rb").read(1) == b"")
for address in sys.argv[1:] or ADDRESSES:
    probe = socket.socket()
    probe.settimeout(5)
    name, port = address.rsplit(":", 1)
    try:
        probe.connect((name, int(port)))
        must(address + " is unreachable", False)
    except ConnectionRefusedError:
        # An ICMP refusal of ours reads the same as a closed port; the listeners of this test are open.
        pass
    except OSError:
        pass
import subprocess, threading
must("subprocesses run", subprocess.run(["sh", "-c", "echo ok"], capture_output=True).stdout == b"ok\n")
thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
import resource
must("open files are limited", resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 65536)
must("core dumps are off", resource.getrlimit(resource.RLIMIT_CORE) == (0, 0))
print("probed")
"#;

/// Prints the address of the container's own end of its network.
const OWN_ADDRESS: &str = "import socket; print(socket.gethostbyname(socket.gethostname()))";
/// Prints where the container's default route goes.
const GATEWAY: &str = "import socket\n\
    routes = [line.split() for line in open('/proc/net/route')]\n\
    print(socket.inet_ntoa(bytes.fromhex(next(r[2] for r in routes if r[1] == '00000000'))[::-1]))";

#[tokio::test]
async fn the_probe_finds_the_whole_posture() {
    let host = Host::open(|_| {}).await;
    let worker = host.claim(1.0, 256 * MIB).await.expect("a worker");
    let gateway = python(&worker, GATEWAY).await;
    // Every address of this machine at once, so also the bridge's.
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::net::TcpStream::connect((gateway.as_str(), port))
        .await
        .expect("open to the host itself");
    let addresses = format!("ADDRESSES = ['{gateway}:{port}', '169.254.169.254:80']\n");
    assert_eq!(python(&worker, &format!("{addresses}{PROBE}")).await, "probed");
    drop(worker);
    host.close().await;
}

#[tokio::test]
async fn containers_do_not_reach_one_another() {
    let host = Host::open(|_| {}).await;
    let first = host.claim(0.5, 128 * MIB).await.expect("a worker");
    let second = host.claim(0.5, 128 * MIB).await.expect("a worker");
    let listen = "import socket\ns = socket.create_server(('0.0.0.0', 4000))\n\
        open('/tmp/ready', 'w').close()\nwhile True: s.accept()";
    docker(&["exec", "-d", first.container.name(), "python3", "-c", listen]);
    let wait = "import os, time\nend = time.monotonic() + 30\n\
        while not os.path.exists('/tmp/ready') and time.monotonic() < end: time.sleep(0.01)\n\
        import socket; socket.create_connection(('127.0.0.1', 4000), 5); print('open')";
    assert_eq!(python(&first, wait).await, "open");
    let address = python(&first, OWN_ADDRESS).await;
    assert!(!address.starts_with("127."), "{address}");
    let connect = format!(
        "import socket\ntry:\n  socket.create_connection(('{address}', 4000), 3); print('reached')\n\
         except OSError: print('unreachable')"
    );
    assert_eq!(python(&second, &connect).await, "unreachable");
    drop((first, second));
    host.close().await;
}

/// The interface of this machine that leads to a container.
fn port_of(address: &str) -> PathBuf {
    let address: std::net::Ipv4Addr = address.parse().expect("an address");
    Path::new("/sys/class/net").join(format!("mst{:08x}", u32::from(address)))
}

#[tokio::test]
async fn a_container_has_an_isolated_port_without_ipv6_and_takes_it_along() {
    let host = Host::open(|_| {}).await;
    let worker = host.claim(0.5, 128 * MIB).await.expect("a worker");
    let port = port_of(&python(&worker, OWN_ADDRESS).await);
    let isolated = std::fs::read_to_string(port.join("brport/isolated")).expect("a port");
    assert_eq!(isolated.trim(), "1");
    let ipv6 = "print([line for line in open('/proc/net/if_inet6') if 'eth0' in line])";
    assert_eq!(python(&worker, ipv6).await, "[]");
    drop(worker);
    host.close().await;
    assert!(!port.exists());
}

#[tokio::test]
async fn a_container_whose_agent_was_killed_leaves_no_port() {
    let host = Host::open(|_| {}).await;
    let worker = host.claim(0.5, 128 * MIB).await.expect("a worker");
    let port = port_of(&python(&worker, OWN_ADDRESS).await);
    assert!(port.exists());
    // As after an agent that was killed: what it had open is closed, and nobody takes the port away but the kernel.
    let Worker { runner, container } = worker;
    docker(&["rm", "-f", container.name()]);
    drop(runner);
    let gone = async {
        while port.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the kernel takes it");
    drop(container);
    host.close().await;
}

#[tokio::test]
async fn a_port_that_lost_its_bridge_is_put_on_it_again() {
    let host = Host::open(|_| {}).await;
    let worker = host.claim(0.5, 128 * MIB).await.expect("a worker");
    let port = port_of(&python(&worker, OWN_ADDRESS).await);
    let name = port.file_name().and_then(|name| name.to_str()).expect("a name");
    let taken = Command::new("ip").args(["link", "set", name, "nomaster"]).output();
    assert!(taken.expect("iproute2 is there").status.success());
    // Each agent looks after all of them.
    let other = Host::open(|_| {}).await;
    let isolated = std::fs::read_to_string(port.join("brport/isolated")).expect("on the bridge");
    assert_eq!(isolated.trim(), "1");
    other.close().await;
    drop(worker);
    host.close().await;
}

/// The engine gives a network that is made anew the next free range. Where other tests have ports on the bridge, it stays.
#[tokio::test]
async fn a_claim_is_served_though_other_agents_have_made_the_bridge_anew_with_another_range() {
    let host = Host::open(|_| {}).await;
    let last_on_the_bridge = Host::open(|_| {}).await;
    last_on_the_bridge.close().await;
    let next = Host::open(|_| {}).await;
    let worker = host.claim(0.5, 128 * MIB).await.expect("a worker");
    let neighbour = next.claim(0.5, 128 * MIB).await.expect("a worker");
    let (own, other) = (python(&worker, OWN_ADDRESS).await, python(&neighbour, OWN_ADDRESS).await);
    for address in [&own, &other] {
        let port = port_of(address);
        assert!(port.join("brport/isolated").exists(), "{} is on no bridge", port.display());
    }
    assert_eq!(python(&worker, GATEWAY).await, python(&neighbour, GATEWAY).await);
    drop((worker, neighbour));
    next.close().await;
    host.close().await;
}

#[tokio::test]
async fn too_much_memory_kills_inside_and_is_counted() {
    let host = Host::open(|_| {}).await;
    let worker = host.claim(1.0, 64 * MIB).await.expect("a worker");
    let neighbour = host.claim(0.5, 64 * MIB).await.expect("a worker");
    let (name, source) = (worker.container.name().to_string(), "x = bytearray(1 << 28)");
    let eat = move || docker(&["exec", &name, "python3", "-c", source]);
    let output = tokio::task::spawn_blocking(eat).await.expect("no panic");
    assert!(!output.status.success());
    let report = worker.container.memory();
    assert!(report.oom_kills >= 1, "{report:?}");
    assert!(report.peak_bytes > 48 * MIB && report.peak_bytes <= 64 * MIB, "{report:?}");
    assert_eq!(neighbour.container.memory().oom_kills, 0);
    drop((worker, neighbour));
    host.close().await;
}

#[tokio::test]
async fn commands_run_where_functions_would_not_fit() {
    let host = Host::open(|_| {}).await;
    let worker = host.claim_of(command_of(IMAGE), 1.0, 64 * MIB).await.expect("a worker");
    assert!(worker.runner.python().is_none());
    drop(worker);
    host.close().await;
}

#[tokio::test]
async fn a_claim_that_cannot_be_served_says_why() {
    let host = Host::open(|_| {}).await;
    let cores = host.settings.cpus.len() as f64;
    let error = host.claim(cores + 1.0, GIB).await.expect_err("too many cores");
    assert!(matches!(error, ClaimError::TooLarge { .. }), "{error}");
    let absent = command_of("nowhere/none:1");
    let error = host.claim_of(absent, 1.0, GIB).await.expect_err("none");
    assert_eq!(error.to_call_error().code, "no_such_image");
    assert!(error.to_call_error().action.contains(IMAGE));
    let error = host.claim_of(command_of("--odd name"), 1.0, GIB).await.expect_err("none");
    assert_eq!(error.to_call_error().code, "no_such_image");
    let older = Wanted { python: Some("3.9"), ..python_of(IMAGE) };
    let error = host.claim_of(older, 1.0, GIB).await.expect_err("another Python");
    assert_eq!(error.to_call_error().code, "python_mismatch");
    assert!(error.to_string().contains("3.11") && error.to_string().contains("3.9"));
    host.close().await;
}

#[tokio::test]
async fn a_claim_waits_for_room_and_a_dropped_one_gives_everything_back() {
    let host = Host::open(|settings| settings.cpus.truncate(1)).await;
    let first = host.claim(1.0, 64 * MIB).await.expect("a worker");
    let waiting = tokio::sync::watch::Sender::new(None);
    let mut why = waiting.subscribe();
    let limits = muster_agent::container::Limits { cpu: 1.0, ram_bytes: 64 * MIB };
    {
        let claim = host.containers.claim("call", python_of(IMAGE), limits, waiting);
        let mut claim = std::pin::pin!(claim);
        let said = async {
            let said = why.wait_for(|why| why.is_some()).await.expect("the claim goes on").clone();
            assert_eq!(said.as_deref(), Some("0 of 1 slots free"));
        };
        tokio::select! {
            _ = &mut claim => panic!("there is no room"),
            said = tokio::time::timeout(SOON, said) => said.expect("in time"),
        }
    }
    first.container.stop(first.runner, Duration::from_secs(5));
    let next = host.claim(1.0, 64 * MIB).await.expect("room came back");
    drop(next);
    host.close().await;
}

#[tokio::test]
async fn warm_workers_are_kept_and_never_used_twice() {
    let host = Host::open(|settings| settings.warm = 1).await;
    host.containers.run();
    let mut status = host.board.watch();
    let images = status.borrow_and_update().images.iter().filter(|i| i.python.is_some()).count();
    let warm = |status: &muster_wire::message::HostStatus| status.warm as usize >= images.max(1);
    let mut names = std::collections::HashSet::new();
    for _ in 0..3 {
        let filled = tokio::time::timeout(SOON, status.wait_for(warm)).await;
        filled.expect("the pool is filled again").expect("the board lives");
        let worker = host.claim(0.5, 64 * MIB).await.expect("a worker");
        assert!(names.insert(worker.container.name().to_string()), "a used container came back");
        drop(worker);
    }
    host.close().await;
}

#[tokio::test]
async fn claims_that_found_a_warm_worker_are_counted() {
    let host = Host::open(|settings| settings.warm = 1).await;
    drop(host.claim(0.5, 64 * MIB).await.expect("a worker"));
    host.containers.run();
    let mut status = host.board.watch();
    let images = status.borrow_and_update().images.iter().filter(|i| i.python.is_some()).count();
    let warm = |status: &muster_wire::message::HostStatus| status.warm as usize >= images;
    let filled = tokio::time::timeout(SOON, status.wait_for(warm)).await;
    filled.expect("the pool is filled").expect("the board lives");
    drop(host.claim(0.5, 64 * MIB).await.expect("a worker"));
    let claims = status.borrow().clone();
    assert_eq!((claims.warm_claims, claims.cold_claims), (1, 1));
    host.close().await;
}

#[tokio::test]
async fn a_call_that_asks_for_a_runtime_gets_a_container_of_it_and_no_warm_one_of_another() {
    // Every engine has it beside `runc`, under this name.
    const OTHER: &str = "io.containerd.runc.v2";
    let host = Host::open(|settings| {
        settings.warm = 1;
        settings.allow_runtime = vec![OTHER.into()];
    })
    .await;
    assert!(host.board.watch().borrow().runtimes.contains(&OTHER.to_owned()));
    host.containers.run();
    let mut status = host.board.watch();
    let images = status.borrow_and_update().images.iter().filter(|i| i.python.is_some()).count();
    let warm = |status: &muster_wire::message::HostStatus| status.warm as usize >= images;
    let filled = tokio::time::timeout(SOON, status.wait_for(warm)).await;
    filled.expect("the pool is filled").expect("the board lives");
    let asked = Wanted { runtime: Some(OTHER), ..python_of(IMAGE) };
    let worker = host.claim_of(asked, 0.5, 128 * MIB).await.expect("a worker");
    assert_eq!(status.borrow().cold_claims, 1, "a warm worker of another runtime was taken");
    let format = "{{.HostConfig.Runtime}}";
    let runtime = docker(&["inspect", "--format", format, worker.container.name()]);
    assert_eq!(text(runtime), OTHER);
    // It is plugged into its network like any other.
    let plugged = python(&worker, "import os; print(os.listdir('/sys/class/net'))").await;
    assert!(plugged.contains("eth0"), "{plugged}");
    drop(worker);
    let error = host.claim_of(Wanted { runtime: Some("kata"), ..asked }, 0.5, 128 * MIB).await;
    let told = error.expect_err("not allowed").to_call_error();
    assert_eq!(told.code, "no_such_runtime");
    assert!(told.action.contains(OTHER), "{}", told.action);
    host.close().await;
}

#[tokio::test]
async fn what_an_earlier_agent_left_is_removed_and_what_others_own_is_not() {
    let state = tempfile::tempdir().expect("a directory");
    let mut settings = common::settings(state.path());
    let (ours, other) = (settings.host_name.clone(), format!("{}-other", settings.host_name));
    let create = |owner: &str| {
        let label = format!("muster.agent={owner}");
        text(docker(&["create", "--label", &label, IMAGE, "sleep", "1000"]))
    };
    let (left, foreign) = (create(&ours), create(&other));
    docker(&["start", &left]);
    let folder = settings.state_dir.join("w/0badcafe");
    std::fs::create_dir_all(&folder).expect("a folder");
    let (mounted, inside) =
        (settings.state_dir.join("mnt"), settings.state_dir.join("mnt/0badcafe"));
    for place in [&mounted, &inside] {
        std::fs::create_dir(place).expect("a folder");
        let at = place.to_str().expect("ours");
        let done = Command::new("mount").args(["-t", "tmpfs", "left", at]).status();
        assert!(done.expect("mount is there").success());
    }
    let host = Host::open(|fresh| {
        std::mem::swap(fresh, &mut settings);
    })
    .await;
    assert_eq!(host.containers_left(), "");
    assert!(!folder.exists() && !inside.exists());
    let found = text(docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("id={foreign}")]));
    docker(&["rm", "-f", &foreign]);
    assert_eq!(found, foreign);
    host.close().await;
}

const MOUNTED: &str = r#"
import os
def refused(path):
    try:
        open(path, "w")
    except OSError:
        return True
lines = [line.split() for line in open("/proc/self/mountinfo")]
flags = {line[4]: line[5].split(",") for line in lines if line[4].startswith("/.muster/mnt/")}
print(sorted(os.listdir("/.muster/mnt")), open("/.muster/mnt/folder/inside").read(), open("/.muster/mnt/file").read(),
    refused("/.muster/mnt/folder/inside"), refused("/.muster/mnt/folder/new"), refused("/.muster/mnt/file"), refused("/.muster/mnt/new"),
    all({"ro", "nosuid", "nodev"} <= set(found) for found in flags.values()), len(flags))
"#;

#[tokio::test]
async fn a_running_worker_and_no_other_sees_what_is_mounted_for_it_read_only() {
    let host = Host::open(|_| {}).await;
    let sources = tempfile::tempdir().expect("a directory");
    let (folder, file) = (sources.path().join("folder"), sources.path().join("file"));
    std::fs::create_dir(&folder).expect("ours");
    std::fs::write(folder.join("inside"), "one").expect("ours");
    std::fs::write(&file, "two").expect("ours");
    for path in [sources.path(), &folder] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let (folder, file) = (Arc::new(folder), Arc::new(file));
    let mut worker = host.claim(0.5, 128 * MIB).await.expect("a worker");
    let neighbour = host.claim(0.5, 128 * MIB).await.expect("a worker");
    worker.container.mount("folder", folder.clone()).expect("mounted");
    worker.container.mount("file", file.clone()).expect("mounted");
    assert_eq!(
        python(&worker, MOUNTED).await,
        "['file', 'folder'] one two True True True True True 2"
    );
    let list = "import os; print(os.listdir('/.muster/mnt'))";
    assert_eq!(python(&neighbour, list).await, "[]");
    let refused = worker.container.mount("file", file.clone()).expect_err("the name is taken");
    assert_eq!(refused.to_call_error().code, "engine_failed");
    drop((worker, neighbour));
    host.close().await;
    assert_eq!((Arc::strong_count(&folder), Arc::strong_count(&file)), (1, 1), "still held");
    assert_eq!(std::fs::read_to_string(&*file).expect("still there"), "two");
}

#[tokio::test]
async fn a_container_that_dies_gives_its_room_back_through_its_owner() {
    let host = Host::open(|settings| settings.cpus.truncate(1)).await;
    let mut worker = host.claim(1.0, 64 * MIB).await.expect("a worker");
    docker(&["kill", worker.container.name()]);
    tokio::time::timeout(SOON, worker.runner.exited()).await.expect("seen to end");
    assert!(!worker.container.is_alive());
    drop(worker);
    host.claim(1.0, 64 * MIB).await.expect("room came back");
    host.close().await;
}
