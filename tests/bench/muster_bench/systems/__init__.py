"""One module for each system; imported only in its own environment, where its package is."""

from __future__ import annotations

import importlib

from .base import System

MODULES = {
    "muster": "muster_",
    "executor": "stdlib",
    "pool": "stdlib",
    "joblib": "joblib_",
    "dask": "dask_",
    "ray": "ray_",
    "parsl": "parsl_",
    "lithops": "lithops_",
    "docker": "docker_",
}
"""The systems, in the order of the tables, and the module of each."""

TITLES = {
    "muster": "Muster",
    "executor": "ProcessPoolExecutor",
    "pool": "multiprocessing.Pool",
    "joblib": "joblib",
    "dask": "Dask distributed",
    "ray": "Ray",
    "parsl": "Parsl",
    "lithops": "Lithops (localhost)",
    "docker": "docker run",
}
"""What people call them."""


def make(name: str, variant: str) -> System:
    """The system, not started."""
    module = importlib.import_module(f"{__name__}.{MODULES[name]}")
    found: System = module.SYSTEMS[name](variant)
    return found
