"""What is kept of a failed test, in a folder named after it: logs, calls, hosts, containers."""

import json
import re
import shutil
import subprocess

from .service import KNOWN, ROOT, RUN

FOLDER = ROOT / "build" / "e2e" / RUN


def forget_stopped():
    """A new test begins: services that have ended before it have nothing to say about it."""
    KNOWN[:] = [service for service in KNOWN if not service.stopped]


def keep(test, phase, report):
    """Writes what can be known now; returns the folder. Never fails: it must not hide the failure
    it documents."""
    folder = FOLDER / re.sub(r"[^\w.-]+", "_", test)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{phase}.txt").write_text(report)
    for number, service in enumerate(KNOWN):
        for log in service.logs():
            shutil.copy(log, folder / f"service-{number}-{log.name}")
        if service.api is None or service.stopped:
            continue
        for name, read in (("calls", service.api.calls), ("hosts", service.api.hosts)):
            try:
                text = json.dumps(read(), indent=1)
            except Exception as error:
                text = f"could not be read: {error!r}"
            (folder / f"service-{number}-{name}.json").write_text(text)
        for agent in service.agents:
            command = ["docker", "ps", "--all", "--no-trunc", "--filter", f"label={agent.label}"]
            done = subprocess.run(command, capture_output=True, timeout=30, check=False)
            (folder / f"service-{number}-{agent.name}-docker-ps.txt").write_bytes(
                done.stdout + done.stderr
            )
    return folder
