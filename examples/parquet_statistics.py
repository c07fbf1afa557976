"""What do taxi rides cost in each city? Statistics over many parquet files, with pyarrow.

The files are written here first. Inputs are their bytes, read one after the other as they are sent; where hosts have
the files themselves, paths would do.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from beside_serial import compare, get_ready, options, timed
from muster import remote_parallel_map

CITIES = np.array(["Bern", "Lima", "Oslo", "Pune", "Rome"])


def write(path: Path, seed: int, rows: int) -> None:
    """One day of rides."""
    random = np.random.default_rng(seed)
    kilometres = random.gamma(2, 3, rows)
    table = {
        "city": CITIES[random.integers(0, len(CITIES), rows)],
        "kilometres": kilometres,
        "fare": np.round(3 + 1.8 * kilometres + random.exponential(1, rows), 2),
    }
    pq.write_table(pa.table(table), path, compression="zstd")


def statistics(parquet: bytes) -> list[dict[str, Any]]:
    """Runs in a container: the sums of one file, by city."""
    table = pq.read_table(pa.BufferReader(parquet))
    wanted = [("fare", "count"), ("fare", "sum"), ("fare", "max"), ("kilometres", "sum")]
    return table.group_by("city").aggregate(wanted).to_pylist()


def summed_up(rows: list[dict[str, Any]]) -> list[tuple[str, int, float]]:
    """What must be the same wherever a file was read; the order is not, nor that of additions."""
    return sorted((row["city"], row["fare_count"], round(row["fare_sum"], 2)) for row in rows)


def main() -> None:
    small = options(__doc__).parse_args().small
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{day:03}.parquet" for day in range(4 if small else 60)]
        for day, path in enumerate(files):
            write(path, day, 1_000 if small else 300_000)
        megabytes = sum(path.stat().st_size for path in files) / 1e6

        get_ready(statistics, files[0].read_bytes(), func_ram=1)
        contents = (path.read_bytes() for path in files)
        found, seconds = timed(lambda: remote_parallel_map(statistics, contents, func_ram=1))
        alone, serial_seconds = timed(lambda: [statistics(path.read_bytes()) for path in files])

    print(f"{len(files)} files, {megabytes:.1f} MB\n")
    print(f"{'city':<8}{'rides':>12}{'mean fare':>12}{'per km':>9}{'dearest':>10}")
    for city in CITIES:
        rows = [row for rows in found for row in rows if row["city"] == city]
        rides, fares = (sum(row[name] for row in rows) for name in ("fare_count", "fare_sum"))
        per_km = fares / sum(row["kilometres_sum"] for row in rows)
        dearest = max(row["fare_max"] for row in rows)
        print(f"{city:<8}{rides:>12,}{fares / rides:>12.2f}{per_km:>9.2f}{dearest:>10.2f}")
    assert [summed_up(rows) for rows in found] == [summed_up(rows) for rows in alone]
    compare(seconds, serial_seconds)


if __name__ == "__main__":
    main()
