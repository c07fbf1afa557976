"""A container engine of a test's own, to kill: containerd and dockerd on a data folder of their own.

The engine and the agents that use it live in a network namespace of their own, so that their bridge
and firewall rules are not those of the machine's engine, which other tests use meanwhile. A pair of
virtual interfaces leads from there to the gateway. `DOCKER_HOST` leads the harness to the engine.
"""

import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from harness import until
from harness.daemon import Daemon
from harness.docker import docker
from harness.leftovers import processes

IMAGE_SECONDS = 120
# A range for tests of networks, which nobody routes.
ADDRESSES = "198.18"
NUMBERS = itertools.count()


def _run(*arguments):
    subprocess.run([str(argument) for argument in arguments], check=True, timeout=60)


class Engine:
    """containerd, dockerd and their network namespace, as a context manager. `data` is dockerd's folder;
    with `live_restore` containers are to outlive dockerd."""

    def __init__(self, folder, live_restore=False):
        self.folder = Path(folder)
        self.data = self.folder / "data"
        self.live_restore = live_restore
        # Short, as sockets have to be.
        self.run = Path(tempfile.mkdtemp(prefix="me-", dir="/run"))
        self.namespace = f"muster-{secrets.token_hex(3)}"
        number = (os.getpid() + next(NUMBERS)) % 250 + 1
        self.gateway_side = f"{ADDRESSES}.{number}.1"
        self._agent_side = f"{ADDRESSES}.{number}.2"
        self.url = f"unix://{self.run}/docker.sock"
        self.containerd = None
        self.dockerd = None

    @property
    def within(self):
        """What starts a command in the engine's network."""
        return ("nsenter", f"--net=/run/netns/{self.namespace}")

    def docker(self, *arguments, **options):
        return docker("--host", self.url, *arguments, **options)

    def start_containerd(self):
        config = self.folder / "containerd.toml"
        config.write_text(
            f'version = 2\nroot = "{self.folder}/containerd"\nstate = "{self.run}/containerd"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{self.run}/containerd.sock"\n'
        )
        command = ["containerd", "--config", config]
        self.containerd = Daemon(command, self.folder / "containerd.log", self.within)
        socket = self.run / "containerd.sock"
        until("containerd listens", lambda: self.containerd.check() and socket.exists(), 30)

    def start_dockerd(self):
        """Starts it, again after a stop or a crash, and waits until it answers."""
        (self.folder / "daemon.json").write_text(json.dumps({"live-restore": self.live_restore}))
        command = [
            "dockerd", "--config-file", self.folder / "daemon.json",
            "--data-root", self.data, "--exec-root", self.run / "docker",
            "--pidfile", self.run / "docker.pid", "--host", self.url,
            "--containerd", self.run / "containerd.sock",
        ]  # fmt: skip
        self.dockerd = Daemon(command, self.folder / "dockerd.log", self.within)
        until("dockerd answers", lambda: self.dockerd.check() and self.answers(), 60, interval=0.1)

    def answers(self):
        command = ["docker", "--host", self.url, "version"]
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0

    def load(self, image):
        """Takes an image from the machine's engine."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            command = ["docker", "--host", self.url, "load", "--quiet"]
            subprocess.run(command, stdin=saving.stdout, check=True, timeout=IMAGE_SECONDS)
        assert saving.returncode == 0

    def shims(self):
        """Process ids of what stands between containerd and each container."""
        return [int(found.partition(":")[0]) for found in processes(str(self.run), self.run, [])
                if "containerd-shim" in found]  # fmt: skip

    def repair(self):
        """Both daemons run again, whatever was done to them."""
        for daemon in (self.dockerd, self.containerd):
            if daemon.running():
                daemon.process.send_signal(signal.SIGCONT)
        if not self.containerd.running():
            self.start_containerd()
        if not self.dockerd.running():
            self.start_dockerd()

    def _network(self):
        near, far = f"{self.namespace}-a"[-15:], f"{self.namespace}-b"[-15:]
        _run("ip", "netns", "add", self.namespace)
        _run("ip", "link", "add", near, "type", "veth", "peer", far, "netns", self.namespace)
        _run("ip", "address", "add", f"{self.gateway_side}/30", "dev", near)
        _run("ip", "link", "set", near, "up")
        inside = ("ip", "-netns", self.namespace)
        _run(*inside, "address", "add", f"{self._agent_side}/30", "dev", far)
        _run(*inside, "link", "set", far, "up")
        _run(*inside, "link", "set", "lo", "up")

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._network()
            self.start_containerd()
            self.start_dockerd()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Both daemons gone, with all that they made; wants that no container is left."""
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.run, ignore_errors=True)
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.callback(subprocess.run, ["ip", "netns", "delete", self.namespace], check=False)
            stack.callback(self._unmount)
            stack.callback(self._stop_daemons)

    def _stop_daemons(self):
        left = self.docker("ps", "--all", "--quiet").split() if self.dockerd else []
        for daemon in (self.dockerd, self.containerd):
            if daemon is not None and daemon.running():
                daemon.terminate()
                daemon.wait(60)
        # A containerd that is killed while it starts or ends a container forgets the shim.
        for shim in self.shims():
            left += Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
            os.kill(shim, signal.SIGKILL)
        assert not left, f"containers or their processes are left: {left}"

    def _unmount(self):
        """What a killed dockerd left mounted."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        places = [line.split()[4] for line in lines]
        for place in reversed(places):
            ours = place.startswith((f"{self.run}/", f"{self.folder}/"))
            if ours and place != str(self.data):
                subprocess.run(["umount", "--lazy", place], check=False)
