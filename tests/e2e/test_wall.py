"""The wall between containers and their host stands, or nothing runs; with no network it is whole."""

import io
import os
import shutil
import socket
import subprocess
from contextlib import redirect_stdout

import muster
import pytest
from harness import held, small_map, until
from harness.addresses import addresses_of_this_host
from harness.docker import inspect
from harness.service import programs

TOOLS = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@pytest.mark.deadline(120)
def test_nothing_starts_and_nothing_is_claimed_while_the_rules_cannot_be_made(
    own_service, tmp_path, monkeypatch
):
    """The tool that makes the rules fails while a file is there."""
    broken = tmp_path / "broken"
    tool = tmp_path / "bin" / "iptables-restore"
    tool.parent.mkdir()
    real = shutil.which("iptables-restore", path=TOOLS)
    tool.write_text(f'#!/bin/sh\n[ ! -e {broken} ] || exit 1\nexec {real} "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    service = own_service()
    agent = service.add_agent("--cpus", "0", "--ram", "3GiB", warm=1)
    assert small_map(len, ["abc"]) == [3]
    service.wait_idle()
    broken.touch()
    until("the agent sees it", lambda: b"network not safe" in agent.log.read_bytes(), 30)
    call = muster.remote_parallel_map(len, ["abc"], func_ram=1, background=True)
    until("it says why it waits", lambda: "firewall rules" in (call.status().waiting or ""), 20)
    assert call.status().done == 0
    broken.unlink()
    assert call.results(timeout=60) == [3]
    assert b"safe again" in agent.log.read_bytes()


def iptables(*arguments):
    """Whether the firewall's tool did, or found, what it was asked."""
    command = [shutil.which("iptables", path=TOOLS), "-w", *arguments]
    return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0


def forget_the_rules():
    """As a firewall tool that starts anew does with what it does not know."""
    assert iptables("-D", "DOCKER-USER", "-i", "muster0", "-j", "MUSTER-FORWARD")
    assert iptables("-D", "INPUT", "-i", "muster0", "-j", "MUSTER-INPUT")
    assert iptables("-F", "MUSTER-FORWARD")
    assert iptables("-F", "MUSTER-INPUT")


def rules_are_there():
    return all(
        iptables("-C", *rule)
        for rule in (
            ("DOCKER-USER", "-i", "muster0", "-j", "MUSTER-FORWARD"),
            ("INPUT", "-i", "muster0", "-j", "MUSTER-INPUT"),
            ("MUSTER-FORWARD", "-d", "10.0.0.0/8", "-j", "REJECT"),
            ("MUSTER-INPUT", "-j", "REJECT"),
        )
    )


@pytest.mark.deadline(90)
def test_rules_that_somebody_removed_are_made_again_around_containers_that_run(service):
    """The rules are of the whole machine, and the agents' timers are of 10 s."""
    assert service
    with socket.create_server(("0.0.0.0", 0)) as server:
        targets = [(address, server.getsockname()[1]) for address in addresses_of_this_host()]

        def reached(targets):
            found = []
            for target in targets:
                try:
                    socket.create_connection(target, 3).close()
                    found.append(target)
                except OSError:
                    pass
            print("looked", flush=True)
            return os.uname().nodename, found

        def inputs():
            yield targets
            until("the container has looked", lambda: "looked" in printed.getvalue(), 30)
            assert rules_are_there()
            forget_the_rules()
            until("the rules are there again", rules_are_there, 30)
            yield targets

        assert reached(targets)[1] == targets
        with redirect_stdout(io.StringIO()) as printed:
            before, after = small_map(reached, inputs(), max_parallelism=1)
        assert before == after, "the same container, which reaches nothing"
        assert before[1] == []
        assert small_map(reached, [targets])[0][1] == [], "nor does one that came later"


@pytest.fixture
def without_network(own_service):
    """A service of one agent whose containers have no network."""
    service = own_service()
    service.add_agent("--cpus", "0-1", "--ram", "2GiB", "--network", "none", "--warm", "0")
    return service


@pytest.mark.deadline(90)
def test_without_a_network_a_function_reaches_nothing_and_calls_others_all_the_same(
    without_network, capfd
):
    """Its agent's socket is all it needs: prints, outputs and calls of its own go through it."""
    url = without_network.url.rpartition(":")
    with socket.create_server(("0.0.0.0", 0)) as server:
        ports = [server.getsockname()[1], int(url[2])]
        hosts = ["127.0.0.1", *addresses_of_this_host(), "169.254.169.254", "1.1.1.1"]
        targets = [(host, port) for host in hosts for port in [*ports, 53]]

        def parent(targets):
            def attempt(targets):
                reached = []
                for family, address in targets:
                    try:
                        with socket.socket(family) as tried:
                            tried.settimeout(3)
                            tried.connect(address)
                            reached.append(address)
                    except OSError:
                        pass
                return reached

            def child(targets):
                print("child", flush=True)
                return os.uname().nodename, attempt(targets)

            try:
                resolved = socket.gethostbyname("example.com")
            except OSError:
                resolved = None
            with open("/proc/net/route") as file:
                routes = file.read().splitlines()[1:]
            # What a neighbour offers on its loopback, and by an abstract name.
            with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(1) as named:
                named.bind("\0e2e-neighbour")
                named.listen()
                mine = [(2, server.getsockname()), (1, "\0e2e-neighbour")]
                print("parent", flush=True)
                there = muster.remote_parallel_map(child, [mine], func_ram=0.25)
                found = {"elsewhere": attempt(targets), "own": len(attempt(mine))}
            found |= {"routes": routes, "resolved": resolved, "node": os.uname().nodename}
            return {**found, "child": there}

        assert socket.create_connection(targets[0], 3).close() is None
        (found,) = small_map(parent, [[(2, target) for target in targets]])
    ((node, reached),) = found["child"]
    assert node != found["node"]
    assert reached == []
    assert found["own"] == 2, "what is its own it reaches"
    assert found["elsewhere"] == []
    assert found["routes"] == []
    assert found["resolved"] is None
    assert capfd.readouterr().out.splitlines() == ["parent", "child"]
    with held(lambda _: os.uname().nodename, [0]) as (name,):
        assert inspect(name)["HostConfig"]["NetworkMode"] == "none"


def test_the_doctor_names_what_is_weak_and_what_to_do(service):
    """Of a host on which an agent runs: its rules are there."""
    assert service
    done = subprocess.run(
        [programs() / "muster-agent", "doctor"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    *findings, summary = done.stdout.splitlines()
    assert summary.endswith("weak points")
    assert "firewall rules are not" not in done.stdout
    # Each finding has a line that says what to do.
    assert len(findings) % 2 == 0
    assert all(line.startswith("    ") for line in findings[1::2])
    weak = [line for line in findings[::2] if line.startswith(("DANGER", "weak"))]
    assert bool(weak) == (done.returncode == 1)
