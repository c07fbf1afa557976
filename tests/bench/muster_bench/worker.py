"""Measures one system on one workload, in a process of its own.

`python -m muster_bench.worker SYSTEM/VARIANT WORKLOAD SIZE`.
Prints one line of JSON, a `samples.Sample`. Whatever the system prints goes to stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
import traceback

from . import functions, systems
from .meter import Meter
from .processes import adopt_orphans
from .samples import Job, Repeat, Sample
from .stdout_reader import StdoutReader
from .systems.base import System
from .workloads import WORKLOADS, prints


def parse(arguments: list[str] | None = None) -> Job:
    parser = argparse.ArgumentParser(prog="muster_bench.worker", description=__doc__)
    parser.add_argument("entry", metavar="SYSTEM/VARIANT")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("size", type=int)
    parser.add_argument("--count", type=int, help="how many inputs really run; times are projected")
    parser.add_argument("--repeats", type=int, help="measured runs")
    chosen = parser.parse_args(arguments)
    system, _, variant = chosen.entry.partition("/")
    return Job(
        system=system,
        variant=variant or ("warm" if system == "muster" else "single"),
        workload=chosen.workload,
        size=chosen.size,
        count=chosen.count or chosen.size,
        repeats=chosen.repeats or WORKLOADS[chosen.workload].repeats,
    )


def measure(job: Job) -> Sample:
    """Starts, warms up, measures and stops the system."""
    workload = WORKLOADS[job.workload]
    excluded = []
    if workload.reads_stdout:
        prints.reader = StdoutReader()
        excluded.append(prints.reader.process.pid)
    system = systems.make(job.system, job.variant)
    sample = Sample(job)
    started = time.perf_counter()
    try:
        system.start()
        system.warm_up()
        sample = Sample(job, startup_s=time.perf_counter() - started, version=system.version())
        sample = dataclasses.replace(sample, repeats=repeats(system, job, excluded))
    except Exception as error:
        sample = failed(sample, error)
    try:
        system.stop()
    except Exception as error:
        # What was measured before stands; the complaint goes with it.
        sample = failed(sample, error)
    return sample


def failed(sample: Sample, error: Exception) -> Sample:
    """The sample with the reason; the first one stays."""
    traceback.print_exception(type(error), error, error.__traceback__)
    text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return dataclasses.replace(sample, error=sample.error or text)


def repeats(system: System, job: Job, excluded: list[int]) -> list[Repeat]:
    run = WORKLOADS[job.workload].run
    found = []
    with Meter(system, excluded) as meter:
        for _ in range(job.repeats):
            system.settle()
            found.append(meter.repeat(run(system, job.count, meter)))
    return found


def main() -> None:
    job = parse()
    # The answer goes where stdout was; what anybody prints, to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    adopt_orphans()
    functions.as_script()
    sample = measure(job)
    print(sample.to_json(), file=answers, flush=True)
    # Some systems leave threads or workers that would hold the exit up; they are this process's own.
    os._exit(1 if sample.error else 0)


if __name__ == "__main__":
    main()
