"""A network between one agent and its gateway that can be cut, each way by itself.

The agent dials the gateway at a loopback address of its own, and the firewall drops what goes
there, or comes from there: the connection stays open on both sides and hears nothing, as behind a
dead switch. Clients use another address and notice nothing.
"""

import contextlib
import itertools
import json
import os
import subprocess

NUMBERS = itertools.count(1)


def join_by(service, address, folder):
    """A join file that leads to the gateway by another address of this machine."""
    join = json.loads(service.join_file.read_text())
    port = join["url"].rpartition(":")[2].strip("/")
    join["url"] = f"http://{address}:{port}"
    file = folder / f"join-{address}.json"
    file.write_text(json.dumps(join))
    file.chmod(0o600)
    return file


class Network:
    """The way of one agent to its gateway. `join` is the agent's join file."""

    def __init__(self, service, folder):
        self.address = f"127.{os.getpid() % 200 + 20}.{next(NUMBERS)}.1"
        self.port = service.url.rpartition(":")[2].strip("/")
        self.join = join_by(service, self.address, folder)

    def _rule(self, action, way):
        match = {
            "up": ["-d", self.address, "--dport", self.port],
            "down": ["-s", self.address, "--sport", self.port],
        }[way]
        rule = ["INPUT", "-i", "lo", "-p", "tcp", *match, "-j", "DROP"]
        subprocess.run(["iptables", "-w", action, *rule], check=True, timeout=30)

    @contextlib.contextmanager
    def cut(self, *ways):
        """Nothing arrives `up` (at the gateway) or `down` (at the agent) until this ends."""
        with contextlib.ExitStack() as stack:
            for way in ways:
                self._rule("--insert", way)
                stack.callback(self._rule, "--delete", way)
            yield
