"""What an agent or a gateway may leave behind, each looked for where the kernel or Docker would show it."""

import os
import subprocess
from pathlib import Path

from .docker import containers, docker
from .wait import until

CGROUPS = Path("/sys/fs/cgroup")


def assert_none(name, state, pids, within=()):
    """Nothing of the agent `name`, whose state folder is `state` and whose processes were `pids`,
    is left. `within`: where it ran, as a `Daemon` has it."""
    # Docker ends a removal, and the kernel a cgroup, a moment after they answer.
    until(f"no container of {name} is left", lambda: not containers(f"muster.agent={name}"), 10)
    until(f"no cgroup of {name} is left", lambda: not cgroups(name), 10)
    _assert_empty(
        name,
        {
            "processes": processes(name, state, pids),
            "sockets": sockets(state),
            "mounts": mounts(state),
            "networks": networks(name),
            "firewall rules": firewall_rules(name, within),
            "bridge without an agent": bridge_without_agent(within),
        },
    )


def assert_none_of_gateway(state, pid):
    """Nothing of a gateway that was stopped is left but what it keeps for its successor."""
    _assert_empty(
        "the gateway",
        {
            "processes": [
                line for line in processes(str(state), state, [pid]) if "muster-gateway" in line
            ],
            "sockets": sockets(state),
            "spilled files": [str(path) for path in (Path(state) / "spill").rglob("*")],
        },
    )


def _assert_empty(whose, found):
    left = {what: there for what, there in found.items() if there}
    assert not left, f"left behind by {whose}: {left}"


def remove(name):
    """Removes the containers that are left, so that one failure does not make others."""
    left = containers(f"muster.agent={name}")
    if left:
        docker("rm", "--force", *left)


def cgroups(name):
    """Cgroups with the agent's name in their path."""
    return [folder for folder, _, _ in os.walk(CGROUPS) if name in folder]


def processes(name, state, pids):
    """Processes that are the agent, or were started with its name or state folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            )
        except OSError:
            continue
        if int(folder.name) in pids or name in command or f"{state}/" in command:
            found.append(f"{folder.name}: {command}")
    return found


def sockets(state):
    """Sockets below the agent's state folder."""
    return [str(path) for path in Path(state).rglob("*") if path.is_socket()]


def mounts(state):
    """Mounts below the agent's state folder."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4].startswith(f"{state}/")]


def networks(name):
    """Docker networks that carry the agent's name or label."""
    labelled = docker(
        "network", "ls", "--filter", f"label=muster.agent={name}", "--format", "{{.Name}}"
    ).split()
    named = docker("network", "ls", "--filter", f"name={name}", "--format", "{{.Name}}").split()
    return sorted({*labelled, *named})


def firewall_rules(name, within=()):
    """Lines of the firewall that name the agent."""
    return [line for line in _rules(within) if name in line]


def bridge_without_agent(within=()):
    """The network and the rules that agents share go with the last agent; one that runs in a network
    of its own shares them with nobody.

    Not one that Docker itself will not let go: containers of somebody else may hold it, and old
    engines at times miscount the endpoints of a network that has none.
    """
    named = docker("network", "ls", "--filter", "name=^muster$", "--format", "{{.Name}}").split()
    if not within and (any_agent_runs() or _ports()):
        return []
    if not all(_removed(name) for name in named):
        return []
    return named + [line for line in _rules(within) if "muster" in line.lower()]


def _ports():
    """Containers that an agent has connected to the network; Docker does not know of these."""
    return [path.name for path in Path("/sys/class/net").glob("mst*")]


def _removed(network):
    done = subprocess.run(["docker", "network", "rm", network], capture_output=True, timeout=60)
    return done.returncode == 0


def any_agent_runs():
    """Whether any agent, of anybody, runs on this machine."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "comm").read_text().strip() == "muster-agent":
                    return True
            except OSError:
                continue
    return False


def _rules(within):
    command = [*within, "iptables-save"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.splitlines()
