"""The driver: `python -m muster_bench [--quick] [--rounds N] [--systems A,B] [--workloads A,B]`.

Exit code 0 whatever the figures are; 1 where a system returned wrong outputs or Muster could not be measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from . import document, environments, launch, machine
from .plan import Choice, jobs, rotated
from .processes import adopt_orphans
from .results import Results
from .samples import Job, Sample
from .systems import MODULES
from .tables import one_line, report
from .workloads import WORKLOADS

ROUNDS = 3
DEADLINE_S = 300.0
QUICK_DEADLINE_S = 120.0
"""For one job: far more than any needs."""
PAGE = environments.ROOT / "docs" / "performance.md"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="muster_bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer systems, smaller sizes, one round"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--systems", type=_names(MODULES), default=())
    parser.add_argument("--workloads", type=_names(WORKLOADS), default=())
    parser.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    parser.add_argument(
        "--add",
        type=Path,
        metavar="FILE",
        help="keep what an earlier run measured, and add to it",
    )
    parser.add_argument(
        "--render",
        type=Path,
        metavar="FILE",
        help="measure nothing, write the page from these results",
    )
    return parser.parse_args(arguments)


def main() -> int:
    chosen = parse()
    if chosen.render:
        document.write(PAGE, Results.from_json(chosen.render.read_text()))
        return 0
    kept = environments.BUILD / ("results-quick.json" if chosen.quick else "results.json")
    results = measure(chosen, kept)
    print(report(results))
    print(f"bench: {kept}", file=sys.stderr)
    # A part of a run, or a quick one, is not what the page promises.
    if not (chosen.quick or chosen.no_page or chosen.systems or chosen.workloads):
        document.write(PAGE, results)
    return 1 if any(_is_wrong(sample) for sample in results.samples) else 0


def measure(chosen: argparse.Namespace, kept: Path) -> Results:
    """All rounds; `kept` has what there is after each, so that a run that is broken off is not lost."""
    adopt_orphans()
    environments.publish()
    planned = jobs(Choice(chosen.quick, chosen.systems, chosen.workloads))
    ready = {
        system: environments.prepare(system)
        for system in dict.fromkeys(job.system for job in planned)
    }
    deadline = QUICK_DEADLINE_S if chosen.quick else DEADLINE_S
    now = machine.facts()
    results = Results(now, [])
    if chosen.add:
        results = Results.from_json(chosen.add.read_text())
        results.facts["added"] = f"{now['date']}, revision {now['revision']}"
    facts, samples = results.facts, results.samples
    environments.BUILD.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for number in range(chosen.rounds or (1 if chosen.quick else ROUNDS)):
        for job in rotated(planned, number):
            samples.append(_measured(job, ready[job.system], deadline))
            print(
                f"[{time.monotonic() - started:6.1f} s] {one_line(samples[-1])}",
                file=sys.stderr,
                flush=True,
            )
        which = "added " if chosen.add else ""
        facts[f"{which}rounds"] = str(number + 1)
        facts[f"{which}duration"] = f"{(time.monotonic() - started) / 60:.1f} min"
        kept.write_text(results.to_json())
    return results


def _measured(job: Job, environment: environments.Environment, deadline: float) -> Sample:
    calibration = machine.calibrate()
    return launch.with_calibration(launch.run(job, environment, deadline), calibration)


def _is_wrong(sample: Sample) -> bool:
    return bool(sample.error) and (
        sample.job.system == "muster" or sample.error.startswith("WrongOutputs")
    )


def _names(known: Mapping[str, object]) -> Callable[[str], tuple[str, ...]]:
    def parse_names(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return names

    return parse_names


if __name__ == "__main__":
    sys.exit(main())
