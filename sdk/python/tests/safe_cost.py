"""What `results="safe"` costs beside `pickle.loads`: prints both, for outputs of several kinds.

.venv/bin/python sdk/python/tests/safe_cost.py
"""

from __future__ import annotations

import datetime
import pickle
import timeit

import numpy
import pandas

from muster._safe import load_output

OUTPUTS = {
    "a text of 20 characters": "x" * 20,
    "a dict of 10 texts": {f"key{n}": "a text" for n in range(10)},
    "a list of 100,000 ints": list(range(100_000)),
    "a list of 10,000 dicts": [{"id": n, "name": f"n{n}", "score": n / 3} for n in range(10_000)],
    "a list of 10,000 dates": [datetime.date(2020, 1, 1 + n % 28) for n in range(10_000)],
    "an array of 8 MB": numpy.arange(1_000_000.0),
    "a table of 100,000 rows": pandas.DataFrame({"a": range(100_000), "b": numpy.ones(100_000)}),
}


def microseconds(load, pickled: bytes) -> float:
    timer = timeit.Timer(lambda: load(pickled))
    number, _ = timer.autorange()
    return min(timer.repeat(3, number)) / number * 1e6


def main() -> None:
    print(f"{'output':26} {'any, µs':>12} {'safe, µs':>12} {'times':>7}")
    for name, value in OUTPUTS.items():
        pickled = pickle.dumps(value, 5)
        plain, safe = microseconds(pickle.loads, pickled), microseconds(load_output, pickled)
        print(f"{name:26} {plain:12,.1f} {safe:12,.1f} {safe / plain:7.1f}")


if __name__ == "__main__":
    main()
