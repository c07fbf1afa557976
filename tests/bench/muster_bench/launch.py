"""Runs one job as a worker process, with a deadline."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import tempfile
import time

from .environments import BUILD, Environment
from .processes import tree
from .samples import Job, Sample

LOGS = BUILD / "logs"


def run(job: Job, environment: Environment, deadline_s: float) -> Sample:
    """What the worker measured; a failure of any kind is a sample with an error."""
    if environment.problem:
        return Sample(job, error=environment.problem)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{job.system}-{job.variant}-{job.workload}.log"
    command = [
        str(environment.python),
        "-m",
        "muster_bench.worker",
        job.entry,
        job.workload,
        str(job.size),
    ]
    command += ["--count", str(job.count), "--repeats", str(job.repeats)]
    # A file, not a pipe: what a system leaves behind may hold a pipe open.
    with log.open("w") as errors, tempfile.TemporaryFile("w+") as answers:
        # In its own folder: a script's folder is on the path of what it starts.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=answers,
            stderr=errors,
            env=environment.variables(),
            cwd=BUILD,
        )
        try:
            process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            _end(process)
            return Sample(job, error=f"stopped after {deadline_s:g} s")
        _end_orphans()
        answers.seek(0)
        lines = answers.read().splitlines()
    if not lines:
        return Sample(job, error=f"its process ended with {process.returncode} (see {log})")
    return Sample.from_dict(json.loads(lines[-1]))


def _end(process: subprocess.Popen[bytes]) -> None:
    """The worker gets the chance to stop its services; then everything of it is killed."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for pid in tree(process.pid):
            _kill(pid)
        process.wait()
    _end_orphans()


def _end_orphans() -> None:
    """The driver adopts what a worker leaves: nothing of one job may run beside the next."""
    deadline = time.monotonic() + 5
    while True:
        left = tree(os.getpid()) - {os.getpid()}
        if not left:
            return
        if time.monotonic() > deadline:
            for pid in left:
                _kill(pid)
        for pid in left:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue  # a grandchild: its own parent waits for it
        time.sleep(0.02)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def with_calibration(sample: Sample, seconds: float) -> Sample:
    return dataclasses.replace(sample, calibration_s=seconds)
