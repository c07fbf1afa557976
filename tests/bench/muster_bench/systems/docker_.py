"""`docker run`, for the cold call: what the engine needs for the same work without Muster."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from .base import Function, System

IMAGE = f"muster/python:{sys.version_info[0]}.{sys.version_info[1]}"
PROGRAM = "print(int(input()), flush=True)"


class Docker(System):
    """A container for each call, as a user would start it. The variant is its network: `bridge` or `none`."""

    name = "docker"

    def __init__(self, variant: str) -> None:
        super().__init__(variant)
        self._ending: list[subprocess.Popen[str]] = []

    def warm_up(self) -> None:
        self.call(int, 0)

    def call(self, function: Function, value: Any) -> Any:
        """Up to the first line of output; the container's end comes after."""
        del function
        command = [
            "docker",
            "run",
            "--rm",
            "-i",
            "--network",
            self.variant,
            IMAGE,
            "python3",
            "-c",
            PROGRAM,
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ending.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{value}\n")
        process.stdin.close()
        return int(process.stdout.readline())

    def settle(self) -> None:
        """The containers of the calls before are gone."""
        for process in self._ending:
            assert process.stdout is not None
            process.stdout.close()
            process.wait(30)
        self._ending.clear()

    def version(self) -> str:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


SYSTEMS: dict[str, type[System]] = {"docker": Docker}
