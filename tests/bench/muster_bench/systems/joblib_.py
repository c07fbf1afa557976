"""joblib, with its default backend (loky)."""

from __future__ import annotations

from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

from .base import WORKERS, Function, System


class Joblib(System):
    """`Parallel(n_jobs)`, entered once, so that its workers stay."""

    name = "joblib"
    package = "joblib"

    def start(self) -> None:
        self._parallel = Parallel(n_jobs=WORKERS, max_nbytes=None)
        self._parallel.__enter__()

    def stop(self) -> None:
        self._parallel.__exit__(None, None, None)
        get_reusable_executor().shutdown(wait=True)

    def each(self, function: Function, inputs: list[Any]) -> list[Any]:
        outputs: list[Any] = self._parallel(delayed(function)(value) for value in inputs)
        return outputs


SYSTEMS: dict[str, type[System]] = {"joblib": Joblib}
