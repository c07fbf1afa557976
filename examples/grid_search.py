"""Which settings of a support vector machine read handwritten digits best? A grid search with scikit-learn.

The data set is sent once, with `muster.put`; each input is a reference to it and one point of the grid.
"""

from __future__ import annotations

import itertools
from typing import Any

import muster
from beside_serial import compare, get_ready, options, timed
from muster import remote_parallel_map
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC


def score(images: Any, digits: Any, cost: float, gamma: float) -> float:
    """The mean accuracy of five folds."""
    return float(cross_val_score(SVC(C=cost, gamma=gamma), images, digits, cv=5).mean())


def score_shared(data: muster.Ref[Any], cost: float, gamma: float) -> float:
    """Runs in a container: the arrays lie in the host's memory once, whoever reads them."""
    return score(*data.get(), cost, gamma)


def main() -> None:
    small = options(__doc__).parse_args().small
    images, digits = load_digits(return_X_y=True)
    if small:
        images, digits = images[:300], digits[:300]
    costs = (1, 10) if small else (0.1, 0.3, 1, 3, 10, 30)
    gammas = (1e-3, 1e-2) if small else (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    grid = list(itertools.product(costs, gammas))

    get_ready(lambda point: score(images[:100], digits[:100], *point), grid[0], func_ram=1)

    def remote() -> list[float]:
        data = muster.put((images, digits))
        inputs = [(data, cost, gamma) for cost, gamma in grid]
        return remote_parallel_map(score_shared, inputs, func_ram=1, unpack=True)

    scores, seconds = timed(remote)
    alone, serial_seconds = timed(lambda: [score(images, digits, *point) for point in grid])

    print(f"{len(images)} images, {len(grid)} points, the best of them:")
    for accuracy, (cost, gamma) in sorted(zip(scores, grid), reverse=True)[:5]:
        print(f"C={cost:<5} gamma={gamma:<7} accuracy {accuracy:.4f}")
    assert max(abs(one - other) for one, other in zip(scores, alone)) < 0.01
    compare(seconds, serial_seconds)


if __name__ == "__main__":
    main()
