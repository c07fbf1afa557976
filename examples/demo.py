"""Which names does Python's own standard library use most?

Tokenises every source file of this machine's standard library in containers, many at a time.
Run it with `make demo`, or with `.venv/bin/python examples/demo.py` while the service runs.
"""

from __future__ import annotations

import io
import keyword
import os
import sysconfig
import time
import tokenize
from collections import Counter
from pathlib import Path

import muster
from muster import remote_parallel_map

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
BIG = 15_000  # tokens


def count_names(source: tuple[str, str]) -> tuple[str, int, Counter[str], str]:
    """Runs in a container: counts the names in one file."""
    file_name, text = source
    tokens = 0
    names: Counter[str] = Counter()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        tokens += 1
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            names[token.string] += 1
    if tokens > BIG:
        (favourite, times), *_ = names.most_common(1)
        print(f"{file_name}: {tokens:,} tokens, {favourite!r} {times:,} times")
    worker = os.readlink("/proc/self/ns/pid")  # every container has its own
    return file_name, tokens, names, worker


def standard_library() -> list[tuple[str, str]]:
    """Name and text of every source file, without tests and what pip has installed."""
    folder = Path(sysconfig.get_path("stdlib"))
    sources = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if LEFT_OUT.isdisjoint(name.parts):
            with tokenize.open(path) as file:
                sources.append((str(name), file.read()))
    return sources


def main() -> None:
    sources = standard_library()
    megabytes = sum(len(text) for _, text in sources) / 1e6
    print(f"Counting names in the standard library: {len(sources)} files, {megabytes:.1f} MB\n")

    started = time.perf_counter()
    counted = remote_parallel_map(count_names, sources, func_cpu=1, func_ram=1)
    seconds = time.perf_counter() - started

    total: Counter[str] = Counter()
    for _, _, names, _ in counted:
        total.update(names)
    tokens = sum(tokens for _, tokens, _, _ in counted)
    workers = len({worker for _, _, _, worker in counted})
    hosts = len(muster.hosts())

    print(f"\n{'name':<16}{'times':>10}")
    for name, times in total.most_common(15):
        print(f"{name:<16}{times:>10,}")
    print(f"\n{tokens:,} tokens in {len(counted)} files, in {seconds:.1f} s")
    print(f"by {workers} workers on {hosts} host{'s' if hosts > 1 else ''}")


if __name__ == "__main__":
    main()
