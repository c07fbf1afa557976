"""joblib, with its default backend (loky)."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import joblib
import numpy
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

from .base import WORKERS, Function, System


class Mapped:
    """Stands for an array in a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self) -> Any:
        return joblib.load(self.path, mmap_mode="r")


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

    def share(self, data: bytearray) -> Mapped:
        descriptor, path = tempfile.mkstemp()
        os.close(descriptor)
        joblib.dump(numpy.frombuffer(data, "u1"), path)
        return Mapped(path)

    def unshare(self, shared: Mapped) -> None:
        os.unlink(shared.path)


SYSTEMS: dict[str, type[System]] = {"joblib": Joblib}
