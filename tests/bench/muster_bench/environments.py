"""A virtual environment for each system, with pinned versions, below build/bench/."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
ROOT = BENCH.parents[1]
BUILD = ROOT / "build" / "bench"
LIBRARY = BUILD / "site-packages"
"""Workers import this package from here; see the package's docstring for why."""
OWN = ("muster", "executor", "pool", "docker")
"""Systems that run in the project's own environment."""


@dataclass(frozen=True)
class Environment:
    """Where a system's worker runs, or why it cannot."""

    python: Path
    problem: str = ""

    def variables(self) -> dict[str, str]:
        """The worker's environment variables."""
        harness = str(ROOT / "tests" / "e2e")
        return {
            # Workers run in a folder of their own, and may not rely on where the driver was started.
            "MUSTER_BIN_DIR": str(ROOT / "target" / "release"),
            **os.environ,
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": f"{LIBRARY}{os.pathsep}{harness}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def publish() -> None:
    """Copies this package to where workers import it from."""
    target = LIBRARY / "muster_bench"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(BENCH / "muster_bench", target, ignore=shutil.ignore_patterns("__pycache__"))


def prepare(system: str) -> Environment:
    """The system's environment, made if it is missing or not the pinned one. Never fails: says what is wrong."""
    if system in OWN:
        return Environment(Path(sys.executable))
    requirements = BENCH / "requirements" / f"{system}.txt"
    folder = BUILD / "venv" / system
    python = folder / "bin" / "python"
    stamp = folder / "pinned"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return Environment(python)
    print(f"bench: making the environment of {system}", file=sys.stderr, flush=True)
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
        str(requirements),
    ]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], install):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode != 0:
            said = [line for line in done.stdout.splitlines() if line.strip()] or ["(nothing)"]
            return Environment(python, f"not installed: {said[-1]}")
    stamp.write_text(wanted)
    return Environment(python)
