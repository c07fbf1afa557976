"""A gateway, a host and a client that meet over networks alone: what README's "Several hosts" says.

The gateway and the client are each in a network namespace of their own. The host, with its Docker,
is this machine. Each reaches the gateway over a link of its own, at the one address it is told.
"""

import contextlib
import itertools
import os
import subprocess
import sys
import time

import pytest
from harness import small_map, until
from harness.service import Service

pytestmark = pytest.mark.long

_made = itertools.count()
AWAY_SECONDS = 120
LONG_PROGRAM = """
import time
import muster

def run(x):
    print("input", x)
    time.sleep(4)
    return x

print(muster.remote_parallel_map(run, range(70), func_ram=0.25, max_parallelism=2, spinner=False))
"""
PROGRAM = """
import muster
print(muster.remote_parallel_map(lambda x: x * x, range(3), func_ram=0.5, spinner=False))
"""


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, timeout=20)


def done(service):
    return sum(call["done"] for call in service.api.calls())


class Networks:
    """The two namespaces and the links between the three; a context manager."""

    def __init__(self):
        # Links go a moment after their namespace, so no two networks of a run share names.
        number = (os.getpid() + next(_made)) % 250
        self.gateway, self.client = f"muster-g{number}", f"muster-c{number}"
        self._host_link, self._client_link = f"mth{number}", f"mtc{number}"
        self._subnet = f"10.213.{number}"

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for name in (self.gateway, self.client):
                _ip("netns", "add", name)
                # Its ends of links go with it.
                stack.callback(_ip, "netns", "delete", name)
                _ip("-n", name, "link", "set", "lo", "up")
            subnet, to_host, to_client = self._subnet, self._host_link, self._client_link
            peer = ("peer", "name", "eth0", "netns", self.gateway)
            _ip("link", "add", to_host, "type", "veth", *peer)
            _ip("address", "add", f"{subnet}.1/30", "dev", to_host)
            _ip("link", "set", to_host, "up")
            _ip("-n", self.gateway, "address", "add", f"{subnet}.2/30", "dev", "eth0")
            _ip("-n", self.gateway, "link", "set", "eth0", "up")
            peer = ("peer", "name", "eth1", "netns", self.gateway)
            _ip("-n", self.client, "link", "add", to_client, "type", "veth", *peer)
            _ip("-n", self.client, "address", "add", f"{subnet}.5/30", "dev", to_client)
            _ip("-n", self.client, "link", "set", to_client, "up")
            _ip("-n", self.gateway, "address", "add", f"{subnet}.6/30", "dev", "eth1")
            _ip("-n", self.gateway, "link", "set", "eth1", "up")
            _ip("-n", self.client, "route", "add", f"{subnet}.2/32", "via", f"{subnet}.6")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @contextlib.contextmanager
    def client_away(self):
        """What the client sends meets silence, and so does what is sent to it."""
        _ip("-n", self.gateway, "link", "set", "eth1", "down")
        try:
            yield
        finally:
            _ip("-n", self.gateway, "link", "set", "eth1", "up")


@pytest.mark.deadline(120)
def test_the_readmes_commands_join_hosts_and_clients_over_a_network(tmp_path, monkeypatch):
    with Networks() as networks:
        inside = ("ip", "netns", "exec")
        service = Service(
            tmp_path / "service", listen="0.0.0.0:8470", within=[*inside, networks.gateway]
        )
        with service:
            assert service.url.startswith("https://10.213."), "on without work, at its own address"
            service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0")
            environment = {**os.environ, **service.environment}
            done = subprocess.run(
                [*inside, networks.client, sys.executable, "-c", PROGRAM],
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert (done.returncode, done.stdout) == (0, "[0, 1, 4]\n"), done.stderr
            command = ["curl", "-sf", "--cacert", service.authority, f"{service.url}/v1/hosts"]
            header = ["-H", f"Authorization: Bearer {service.token}"]
            listed = subprocess.run(
                [*inside, networks.client, *command, *header], capture_output=True, timeout=20
            )
            assert listed.returncode == 0, listed.stderr
            assert service.agents[0].name.encode() in listed.stdout
            for variable, value in service.environment.items():
                monkeypatch.setenv(variable, value)
            assert small_map(lambda x: x + 1, [1]) == [2]


@pytest.mark.deadline(300)
def test_a_client_whose_network_was_away_for_minutes_has_every_output_and_print_once(tmp_path):
    with Networks() as networks:
        inside = ("ip", "netns", "exec")
        service = Service(
            tmp_path / "service", listen="0.0.0.0:8470", within=[*inside, networks.gateway]
        )
        with service:
            service.add_agent("--cpus", "0,1", "--ram", "1GiB", "--warm", "0")
            client = subprocess.Popen(
                [*inside, networks.client, sys.executable, "-u", "-c", LONG_PROGRAM],
                env={**os.environ, **service.environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                until("some inputs are done", lambda: done(service) > 2)
                before = done(service)
                with networks.client_away():
                    time.sleep(AWAY_SECONDS)
                    assert done(service) - before > AWAY_SECONDS / 4, "the call went on meanwhile"
                said, told = client.communicate(timeout=120)
            finally:
                client.kill()
    assert client.returncode == 0, told
    *printed, outputs = said.splitlines()
    assert outputs == str(list(range(70)))
    assert sorted(printed) == sorted(f"input {x}" for x in range(70))
    assert told.count("cannot be reached; trying again") == 1, told
