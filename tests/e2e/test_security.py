"""What a container may do and reach, found out from the inside by ordinary calls."""

import ctypes
import errno
import io
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import redirect_stdout

import pytest
from harness import held, small_map, until
from harness.addresses import addresses_of_this_host
from harness.docker import docker, inspect


@pytest.mark.smoke
def test_the_probe_finds_the_whole_posture(service):
    def probe(_):
        with open("/proc/self/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        libc = ctypes.CDLL(None, use_errno=True)

        def error_of(call, *arguments):
            ctypes.set_errno(0)
            return ctypes.get_errno() if call(*arguments) == -1 else 0

        def error_in(action):
            try:
                action()
            except OSError as error:
                return error.errno
            return 0

        def writable_below(folder):
            paths = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]
            return [path for path in paths if os.access(path, os.W_OK)]

        io_uring_setup = 425
        bpf, keyctl, unshare_user = 321, 250, 0x10000000
        mount, umount, pivot_root, chroot, setns = 165, 166, 155, 161, 308
        ptrace, process_vm_readv, open_by_handle, userfaultfd = 101, 310, 304, 323
        module, kexec, perf, add_key = 175, 246, 298, 248
        return {
            "ids": (os.getuid(), os.getgid(), os.geteuid(), os.getgroups()),
            "capabilities": [
                int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")
            ],
            "no new privileges": status["NoNewPrivs"],
            "seccomp": status["Seccomp"],
            "io_uring": error_of(libc.syscall, io_uring_setup, 8, ctypes.create_string_buffer(256)),
            "bpf": error_of(libc.syscall, bpf, 0, None, 0),
            "keyctl": error_of(libc.syscall, keyctl, 0, 0, 0, 0, 0),
            "system calls": {
                number: error_of(libc.syscall, number, b"/", b"/", b"tmpfs", 0, 0, 0)
                for number in (
                    mount,
                    umount,
                    pivot_root,
                    chroot,
                    setns,
                    open_by_handle,
                    userfaultfd,
                    module,
                    kexec,
                    perf,
                    add_key,
                )
            },
            "ptrace": error_of(libc.syscall, ptrace, 16, 1, 0, 0),
            "memory of pid 1": error_of(libc.syscall, process_vm_readv, 1, 0, 0, 0, 0, 0),
            "vsock": error_in(lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()),
            "user namespace": error_of(libc.unshare, unshare_user),
            "mknod": error_in(lambda: os.mknod("/tmp/device", 0o20600, os.makedev(1, 3))),
            "root": error_in(lambda: open("/file", "w")),
            "etc": error_in(lambda: open("/etc/file", "w")),
            "runner": error_in(lambda: open("/.muster/runner/file", "w")),
            "sysctl": error_in(lambda: open("/proc/sys/kernel/hostname", "w").write("x")),
            "cgroup": writable_below("/sys/fs/cgroup"),
            "devices": sorted(os.listdir("/dev")),
            "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
            "docker socket": any(map(os.path.exists, ("/var/run/docker.sock", "/run/docker.sock"))),
            "environment": dict(os.environ),
        }

    (found,) = small_map(probe, [0])
    uid, gid, effective, groups = found["ids"]
    assert uid == effective != 0
    assert gid != 0
    assert 0 not in groups
    assert found["capabilities"] == [0] * 5
    assert found["no new privileges"] == "1"
    assert found["seccomp"] == "2"
    for what in ("io_uring", "bpf", "keyctl"):
        assert found[what] in (errno.EPERM, errno.ENOSYS), what
    for number, error in found["system calls"].items():
        assert error in (errno.EPERM, errno.ENOSYS), number
    for what in ("ptrace", "memory of pid 1"):
        assert found[what] in (errno.EPERM, errno.ENOSYS), what
    assert found["vsock"] in (errno.EPERM, errno.EAFNOSUPPORT)
    assert found["user namespace"] == errno.EPERM
    assert found["mknod"] == errno.EPERM
    for what in ("root", "etc", "runner", "sysctl"):
        assert found[what] in (errno.EROFS, errno.EACCES), what
    assert found["cgroup"] == []
    assert not {"sda", "vda", "mem", "kmsg", "fuse", "kvm"} & set(found["devices"])
    assert len(found["processes"]) <= 4, "only our own processes can be seen"
    assert not found["docker socket"]
    # No credential of the fleet is inside.
    text = repr(found["environment"])
    assert service.token not in text
    assert "muster_" not in text


def test_two_workers_have_users_of_their_own(service):
    with held(lambda _: (os.uname().nodename, os.getuid()), [0, 1]) as found:
        assert len({node for node, _ in found}) == 2
        assert len({uid for _, uid in found}) == 2


def test_docker_agrees_with_the_hardening_list(service):
    with held(lambda _: os.uname().nodename, [0]) as (name,):
        container = inspect(name)
    host, config = container["HostConfig"], container["Config"]
    assert config["Labels"]["muster.agent"] == service.agents[0].name
    assert config["User"] not in ("", "0", "root")
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges" in host["SecurityOpt"][0]
    assert not host["Privileged"]
    assert host["ReadonlyRootfs"]
    assert host["IpcMode"] == "private"
    assert host["PidMode"] == ""
    assert host["UTSMode"] == ""
    assert host["CgroupnsMode"] == "private"
    assert host["NetworkMode"] not in ("host", "default", "bridge")
    assert host["PidsLimit"] == 1024
    assert host["OomScoreAdj"] == 500
    limits = {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]}
    # Fewer files where the engine itself may not have so many.
    assert 1024 <= limits.pop("nofile") <= 65536
    assert limits == {"core": 0}
    assert host["LogConfig"]["Type"] == "none"
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert not host["Devices"]
    assert not host["Binds"]
    assert all(not mount["RW"] for mount in container["Mounts"] if mount["Type"] == "bind")


@pytest.fixture
def reachable_by_a_plain_container():
    """A listener on every address of this host, a link-local one among them, where a cloud's
    metadata would be."""
    address = "169.254.77.77"
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True, timeout=10)
    try:
        with socket.create_server(("0.0.0.0", 0)) as server:
            server.listen()
            yield server.getsockname()[1], address, server
    finally:
        subprocess.run(
            ["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True, timeout=10
        )


@pytest.mark.deadline(90)
def test_the_host_the_gateway_and_metadata_addresses_cannot_be_reached(
    service, reachable_by_a_plain_container
):
    port, link_local, server = reachable_by_a_plain_container
    gateway_port = int(service.url.rpartition(":")[2])
    addresses = addresses_of_this_host()
    assert link_local in addresses
    assert len(addresses) >= 2
    targets = [(address, number) for address in addresses for number in (port, gateway_port)]
    targets += [("127.0.0.1", gateway_port), ("127.0.0.1", port), ("169.254.169.254", 80)]

    def reach(targets):

        reached = []

        def attempt(target):
            try:
                socket.create_connection(target, 3).close()
                reached.append(target)
            except OSError:
                pass

        threads = [threading.Thread(target=attempt, args=(target,)) for target in targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return reached

    # The listener is there: from here it answers.
    assert set(reach([(address, port) for address in addresses])) == {
        (address, port) for address in addresses
    }
    assert small_map(reach, [targets]) == [[]]


@pytest.mark.deadline(60)
def test_other_containers_cannot_be_reached(service):
    """One worker listens on all its addresses and says which they are; another one tries to get
    through to it."""
    arrived = []

    def inputs():
        yield None
        stream = sys.stdout
        assert isinstance(stream, io.StringIO)
        until("the listener has said where it is", lambda: "\n" in stream.getvalue(), 20)
        address, port = stream.getvalue().split()
        arrived.append(address)
        yield address, int(port)

    def run(target):
        if target is None:
            with socket.create_server(("0.0.0.0", 0)) as server:
                server.settimeout(8)
                print(
                    socket.gethostbyname(socket.gethostname()), server.getsockname()[1], flush=True
                )
                try:
                    server.accept()
                except TimeoutError:
                    return "nobody came"
                return "somebody came"
        try:
            socket.create_connection(target, 3).close()
        except OSError as error:
            return type(error).__name__
        return "reached"

    with redirect_stdout(io.StringIO()):
        listener, visitor = small_map(run, inputs())
    assert listener == "nobody came"
    assert visitor == "TimeoutError" or visitor.endswith("Error")
    assert arrived
    assert not arrived[0].startswith("127.")


def test_a_user_cannot_ask_for_more_than_an_image(service):
    """What reaches the engine cannot be steered: the whole request has no field for it."""
    for field in (
        "privileged",
        "binds",
        "volumes",
        "devices",
        "cap_add",
        "network",
        "security_opt",
        "runtime",
        "user",
    ):
        body = json.dumps({"command": ["true"], field: True}).encode()
        status, _, _ = service.api.request(
            "POST", "/v1/calls", body, {"Content-Type": "application/json"}
        )
        assert status == 400, field


def test_no_container_of_ours_publishes_a_port(service):
    text = docker("ps", "--filter", f"label={service.agents[0].label}", "--format", "{{.Ports}}")
    assert text.split() == []
