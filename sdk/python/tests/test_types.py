"""What type checkers make of a user's calls."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"

CALLS = """
from typing import AsyncGenerator, Generator
from typing_extensions import assert_type
import muster
import muster.aio
from muster import Call, remote_parallel_map as call

def one(x: int) -> str: return ""
def two(x: int, y: int) -> str: return ""

assert_type(call(one, [1]), list[str])
assert_type(call(one, [1], 1, 4, False, True, False, 3, image="x", ordered=False), list[str])
assert_type(call(one, [1], generator=True, ordered=True), Generator[str, None, None])
assert_type(call(one, [1], background=True, retries=2), Call)
assert_type(call(two, [(1, 2)], unpack=True), list[str])
assert_type(call(two, [{"x": 1, "y": 2}], unpack=True, generator=True), Generator[str, None, None])
assert_type(call(two, [(1, 2)], unpack=True, background=True), Call)

async def main(flag: bool) -> None:
    call(one, [1], generator=flag)
    assert_type(await muster.aio.remote_parallel_map(one, [1]), list[str])
    assert_type(await muster.aio.remote_parallel_map(one, [1], background=True), Call)
    assert_type(await muster.aio.remote_parallel_map(two, [(1, 2)], unpack=True), list[str])
    outputs = muster.aio.remote_parallel_map(one, [1], generator=True, ordered=True)
    assert_type(outputs, AsyncGenerator[str, None])

call(two, [1])  # wrong
call(one, ["a"])  # wrong
call(one, [1], imag="x")  # wrong
call(one, [1], timeout="1")  # wrong
call(two, [1], unpack=True)  # wrong
"""


def test_outputs_have_the_functions_type_and_wrong_calls_are_found(tmp_path: Path) -> None:
    file = tmp_path / "calls.py"
    file.write_text(textwrap.dedent(CALLS))
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", str(file)]  # fmt: skip
    cache = f"--cache-dir={tmp_path / 'cache'}"
    done = subprocess.run(
        [*command, cache, "--hide-error-context"],
        env={"MYPYPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not done.stderr
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    found = {int(line.split(":")[1]) for line in errors}
    wrong = {n for n, line in enumerate(CALLS.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wrong, done.stdout
