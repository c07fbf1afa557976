"""Which names does Python's own standard library use most?

Tokenises every source file of this machine's standard library, each file in a container, all at the same time.
Run it with `make demo`, or with `.venv/bin/python examples/demo.py` while the service runs.
"""

from __future__ import annotations

import io
import keyword
import sysconfig
import time
import tokenize
from collections import Counter
from pathlib import Path

import muster
from muster import remote_parallel_map

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
BIG = 15_000  # tokens


def count_names(source: tuple[str, str]) -> tuple[str, int, Counter[str]]:
    """Runs in a container: counts the names in one file."""
    name, text = source
    tokens = 0
    names: Counter[str] = Counter()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        tokens += 1
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            names[token.string] += 1
    if tokens > BIG:
        print(f"{name}: {tokens:,} tokens, mostly {names.most_common(1)[0][0]!r}")
    return name, tokens, names


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
    size = sum(len(text) for _, text in sources)
    print(
        f"Counting the names in {len(sources)} files ({size / 1e6:.1f} MB) of the standard library ...\n"
    )

    started = time.perf_counter()
    counted = remote_parallel_map(count_names, sources, func_cpu=1, func_ram=1)
    seconds = time.perf_counter() - started

    total: Counter[str] = Counter()
    for _, _, names in counted:
        total.update(names)
    tokens = sum(tokens for _, tokens, _ in counted)

    print(f"\n{'name':<16}{'times':>10}")
    for name, times in total.most_common(15):
        print(f"{name:<16}{times:>10,}")
    print(f"\n{tokens:,} tokens in {len(counted)} files, in {seconds:.1f} s")


if __name__ == "__main__":
    main()
