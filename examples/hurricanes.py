"""What does a century of hurricanes cost? A Monte Carlo simulation with numpy.

Each of 500 tasks simulates many seasons from its own seed and gives a small dict back, so almost nothing travels.
"""

from __future__ import annotations

import math

import numpy as np
from beside_serial import compare, get_ready, options, timed
from muster import remote_parallel_map

LANDFALLS = 1.7  # a year, on average
THRESHOLDS = (10, 50, 100, 200)  # billions


def simulate(task: tuple[int, int]) -> dict[str, float]:
    """Runs in a container: the yearly losses of many seasons, summed up."""
    seed, seasons = task
    random = np.random.default_rng(seed)
    storms = random.poisson(LANDFALLS, seasons)
    season = np.repeat(np.arange(seasons), storms)
    wind = 33 + 18 * random.weibull(1.3, len(season))  # m/s, at landfall
    exposure = random.lognormal(0, 1, len(season))  # what stands in its way
    losses = 3 * exposure * ((wind - 25) / 25) ** 3  # billions
    yearly = np.bincount(season, weights=losses, minlength=seasons)
    above = {f"above {limit}": int((yearly > limit).sum()) for limit in THRESHOLDS}
    return {"seasons": seasons, "loss": float(yearly.sum()), "worst": float(yearly.max()), **above}


def main() -> None:
    small = options(__doc__).parse_args().small
    tasks = [(seed, 2_000 if small else 200_000) for seed in range(20 if small else 500)]

    get_ready(simulate, tasks[0], func_ram=1)
    results, seconds = timed(lambda: remote_parallel_map(simulate, tasks, func_ram=1))
    alone, serial_seconds = timed(lambda: [simulate(task) for task in tasks])

    seasons = sum(result["seasons"] for result in results)
    print(f"{seasons:,} seasons in {len(results)} tasks")
    print(
        f"mean loss of a year  {sum(result['loss'] for result in results) / seasons:8.1f} billion"
    )
    print(f"worst year           {max(result['worst'] for result in results):8,.1f} billion")
    for limit in THRESHOLDS:
        years = sum(result[f"above {limit}"] for result in results)
        often = f"once in {seasons / years:,.1f} years" if years else "never"
        print(f"more than {limit:>3} billion: {often}")
    for one, other in zip(results, alone):
        assert math.isclose(one["loss"], other["loss"]), "a seed gives the same storms anywhere"
    compare(seconds, serial_seconds)


if __name__ == "__main__":
    main()
