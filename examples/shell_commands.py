"""What does each level of gzip cost and gain? A map of shell commands: any program of the image is a function.

A command over many inputs needs no Python at all: see the README on curl.
"""

from __future__ import annotations

import subprocess
import time
from typing import NamedTuple

from beside_serial import compare, options, timed
from muster import remote_parallel_map


class Ended(NamedTuple):
    exit_code: int
    output: str
    seconds: float


def shell(command: str) -> Ended:
    """Runs in a container; what the command writes to stderr appears here as it is written."""
    started = time.perf_counter()
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False)
    return Ended(done.returncode, done.stdout.strip(), time.perf_counter() - started)


def main() -> None:
    small = options(__doc__).parse_args().small
    numbers = 20_000 if small else 3_000_000
    commands = [f"seq {numbers} | gzip -{level} | wc -c" for level in range(1, 10)]

    results, seconds = timed(lambda: remote_parallel_map(shell, commands, func_ram=0.5))
    alone, serial_seconds = timed(lambda: [shell(command) for command in commands])

    print(f"{'command':<36}{'exit':>5}{'bytes':>12}{'seconds':>9}")
    for command, result in zip(commands, results):
        print(f"{command:<36}{result.exit_code:>5}{result.output:>12}{result.seconds:>9.2f}")
    assert [result.exit_code for result in alone] == [result.exit_code for result in results]
    compare(seconds, serial_seconds)


if __name__ == "__main__":
    main()
