"""A service under test: one gateway, any number of agents, and the promise that nothing of them is
left."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import leftovers
from .api import Api
from .daemon import Daemon
from .docker import containers
from .wait import until

ROOT = Path(__file__).resolve().parents[3]
# One id for all of a test run: it is in the name of every agent, and so on everything an agent
# makes.
RUN = secrets.token_hex(3)
# The written order of stopping gives running calls their grace; these tests leave none, so this is
# generous.
STOP_SECONDS = 30.0
# Every service started since the last test began or still running: what evidence is taken from.
KNOWN = []


def programs():
    """The folder of the daemons' programs."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(os.environ.get("MUSTER_BIN_DIR", target / "release"))


def runner_folder():
    """The folder that agents mount into containers."""
    return Path(os.environ.get("MUSTER_RUNNER_DIR", ROOT / "build" / "runner")).resolve()


class Agent:
    """One agent. `name` is its host's name and the value of the label `muster.agent` on all it
    makes."""

    def __init__(self, service, name, folder, arguments):
        self.service = service
        self.folder = folder
        self.name = name
        # Short: the path of a unix socket has at most 107 characters.
        self.state = Path(tempfile.mkdtemp(prefix="mt-", dir="/run"))
        self.log = folder / f"{name}.log"
        self.arguments = arguments
        # A file with a join string, made when it starts first, and what it joined with.
        self.join = None
        self.identity = folder / f"{name}-identity"
        # Another place (see `Daemon`).
        self.within = ()
        self.environment = None
        self.cache = folder / f"{name}-cache"
        self.daemon = None
        self.ended = False

    @property
    def label(self):
        return f"muster.agent={self.name}"

    def start(self):
        """Starts it, again after a stop or a crash."""
        self.join = self.join or self.service.join_file(self.name)
        self.daemon = Daemon(
            [
                programs() / "muster-agent",
                "--join-file", self.join,
                "--identity-dir", self.identity,
                "--runner-dir", runner_folder(),
                "--state-dir", self.state,
                "--cache-dir", self.cache,
                "--host-name", self.name,
                *self.arguments,
            ],
            self.log,
            self.within,
            self.environment,
        )  # fmt: skip
        self.ended = False

    def status(self):
        """What the gateway's list of hosts says of it; None when it is not there."""
        self.daemon.check()
        return next((host for host in self.service.api.hosts() if host["host"] == self.name), None)

    def wait_ready(self, warm=0):
        """Waits until it is connected, knows its images, and has so many warm workers."""
        until(
            f"{self.name} is connected and has images",
            lambda: (self.status() or {}).get("images"),
            30,
        )
        if warm:
            until(f"{self.name} has {warm} warm workers", lambda: self.status()["warm"] >= warm, 30)

    def wait_idle(self, seconds=15.0):
        """Waits until all its room is free again: no worker of any call is left."""

        def idle():
            status = self.status()
            return status and status["workers"] == 0 and status["free_cores"] == status["cores"]

        until(f"{self.name} has given back all its room", idle, seconds)

    def busy(self):
        """How many workers calls have on it now, by its own count."""
        return self.status()["workers"]

    def containers(self):
        """The names of its containers, warm and used."""
        return containers(self.label)

    def terminate(self):
        self.daemon.terminate()

    def wait_stopped(self):
        code = self.daemon.wait(STOP_SECONDS)
        self.ended = True
        assert code == 0, f"{self.name} ended with {code}:\n{self.daemon.tail()}"

    def kill(self):
        """SIGKILL, as in a crash. What it leaves is for its successor to remove."""
        self.daemon.kill()

    def assert_nothing_left(self):
        try:
            leftovers.assert_none(self.name, self.state, [self.daemon.pid], self.within)
        finally:
            leftovers.remove(self.name)
            shutil.rmtree(self.state, ignore_errors=True)


class Service:
    """A gateway and its agents, as a context manager. Extra `gateway` arguments go to the gateway's
    command line; `within` and `environment`: as the gateway's `Daemon` has them."""

    def __init__(self, folder, gateway=(), listen="127.0.0.1:0", within=(), environment=None):
        self.folder = Path(folder)
        self.state = self.folder / "gateway"
        self.gateway_arguments = gateway
        self.listen = listen
        self.environment_of_gateway = environment
        self.within = within
        self.gateway = None
        self.api = None
        self.agents = []
        self.stopped = False

    def command(self, *arguments):
        """What a command on the gateway's machine prints."""
        done = subprocess.run(
            [programs() / "muster-gateway", *arguments, "--state-dir", self.state],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout.strip()

    def join_file(self, name, address=None):
        """A new file with a join string for the host of this name, which is told this address of the
        gateway."""
        string = self.command("join-string", "create", "--host", name)
        path = self.folder / f"{name}-join"
        path.touch(0o600)
        path.write_text(f"{address or self.url}#{string.partition('#')[2]}\n")
        return path

    @property
    def authority(self):
        """The file of the gateway's own certificate authority, where it speaks TLS by one."""
        path = self.state / "ca.pem"
        return path if path.exists() else None

    @property
    def url(self):
        return self.api.url

    @property
    def token(self):
        return self.api.token

    @property
    def environment(self):
        """What a client needs to find this service."""
        return {"MUSTER_URL": self.url, "MUSTER_TOKEN": self.token}

    def start(self):
        KNOWN.append(self)
        self.state.mkdir(parents=True, exist_ok=True)
        return self._start_gateway(self.listen)

    def restart_gateway(self, listen):
        """Stops the gateway and starts it again at the address it had."""
        self._stop_gateway()
        self._start_gateway(listen)

    def crash_gateway(self):
        """Ends the gateway with SIGKILL and starts it again at the address it had."""
        self.gateway.kill()
        self._start_gateway(self.url.removeprefix("http://"))

    def _start_gateway(self, listen):
        before = self._written()
        self.gateway = Daemon(
            [
                programs() / "muster-gateway",
                "--listen", listen,
                "--state-dir", self.state,
                *self.gateway_arguments,
            ],
            self.folder / "gateway.log",
            self.within,
            self.environment_of_gateway,
        )  # fmt: skip
        until("the gateway has written its files", lambda: self._written() != before, 20)
        found = json.loads(self._service_file.read_text())
        self.api = Api(found["url"], found["token"], self.authority)
        until("the gateway is ready", lambda: self.gateway.check() and self.api.ready(), 20)
        return self

    @property
    def _service_file(self):
        return self.state / "service.json"

    def _written(self):
        """When the file that clients read was written last."""
        try:
            return self._service_file.stat().st_mtime_ns
        except FileNotFoundError:
            if self.gateway:
                self.gateway.check()
            return None

    def add_agent(self, *arguments, warm=0, address=None, within=(), environment=None, cache=None):
        """Starts one more agent and waits until it can work. `address`: another way to the gateway
        than everybody's; `within` and `environment`: as a `Daemon` has them; `cache`: another folder
        for what it fetches."""
        name = f"e2e-{RUN}-{secrets.token_hex(2)}"
        agent = Agent(self, name, self.folder, arguments)
        agent.join = address and self.join_file(name, address)
        agent.within, agent.environment = within, environment
        agent.cache = cache or agent.cache
        self.agents.append(agent)
        agent.start()
        agent.wait_ready(warm)
        return agent

    def stop(self):
        """SIGTERM to all, agents first; wants clean exits, and nothing left."""
        self.stopped = True
        running = [agent for agent in self.agents if not agent.ended]
        for agent in running:
            agent.terminate()
        # Every part is stopped and looked at, whatever the ones before it did; the first complaint
        # comes out.
        with contextlib.ExitStack() as stack:
            for agent in self.agents:
                stack.callback(agent.assert_nothing_left)
            stack.callback(self._stop_gateway)
            for agent in running:
                stack.callback(agent.wait_stopped)

    def _stop_gateway(self):
        self.gateway.terminate()
        code = self.gateway.wait(STOP_SECONDS)
        assert code == 0, f"the gateway ended with {code}:\n{self.gateway.tail()}"
        leftovers.assert_none_of_gateway(self.state, self.gateway.pid)

    def wait_idle(self, seconds=15.0):
        for agent in self.agents:
            if not agent.ended:
                agent.wait_idle(seconds)

    def cancel_all(self):
        """Cancels every call that has not ended."""
        for call in self.api.calls():
            if call["ended"] is None:
                self.api.cancel(call["id"])

    def logs(self):
        return sorted(self.folder.glob("*.log"))

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stopped = True
            if self.gateway:
                self.gateway.kill()
            raise

    def __exit__(self, *_):
        self.stop()
