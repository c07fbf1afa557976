"""A network between one agent and its gateway that can be cut, each way by itself.

The agent dials the gateway at a loopback address of its own, and the firewall drops what goes
there, or comes from there: the connection stays open on both sides and hears nothing, as behind a
dead switch. Clients use another address and notice nothing.
"""

import contextlib
import itertools
import os
import subprocess

NUMBERS = itertools.count(1)


def url_by(service, address):
    """The gateway's address by another address of this machine."""
    return f"http://{address}:{service.url.rpartition(':')[2].strip('/')}"


class Network:
    """The way of one agent to its gateway, which for that agent is at `url`."""

    def __init__(self, service):
        self.address = f"127.{os.getpid() % 200 + 20}.{next(NUMBERS)}.1"
        self.port = service.url.rpartition(":")[2].strip("/")
        self.url = url_by(service, self.address)

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
