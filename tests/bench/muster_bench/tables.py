"""Markdown tables of a run. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .figures import Spread, cpu_of, median, peaks_of, ratio, spread, values_of
from .results import Results
from .samples import Sample
from .systems import TITLES
from .workloads import WORKLOADS
from .workloads.base import Workload

MIB = 1 << 20
SERVICES = ("gateway", "agent")


def report(results: Results) -> str:
    """The whole of a run: facts, the summary, and a table for each workload and size."""
    parts = [machine_lines(results), summary(results)]
    for workload in WORKLOADS.values():
        parts += [detail(results, workload, size) for size in results.sizes(workload.name)]
    return "\n\n".join(parts) + "\n"


def machine_lines(results: Results) -> str:
    """The machine, the versions and the noise."""
    lines = [f"- {name}: {value}" for name, value in results.facts.items() if value]
    versions = {sample.job.system: sample.version for sample in results.samples if sample.version}
    named = ", ".join(
        f"{TITLES[system]} {version}" for system, version in versions.items() if system != "muster"
    )
    lines.append(f"- peers: {named}")
    noise = results.noise()
    if noise is not None:
        lines.append(
            f"- noise: a fixed loop took up to {100 * noise:.0f} % longer than at its fastest"
        )
    return "\n".join(lines)


def summary(results: Results) -> str:
    """One row for each workload: Muster beside the best of the peers."""
    rows = [["work", "Muster", "best peer", "Muster ÷ best peer", "goal"]]
    for workload in WORKLOADS.values():
        for size in results.sizes(workload.name):
            found = spreads(results, workload, size)
            ours = [entry for entry in found if entry.startswith("muster/")]
            best = best_peer(found, workload.better)
            rows.append(
                [
                    title(workload, size),
                    shown(found[ours[0]], workload.headline) if ours else "(not measured)",
                    f"{name_of(best)}: {number(found[best].median)}" if best else "–",
                    times(found[ours[0]].median, found[best].median) if ours and best else "–",
                    workload.goal,
                ]
            )
    return table(rows)


def detail(results: Results, workload: Workload, size: int) -> str:
    """One workload: every system with spread, ratio, cost and start-up."""
    found = results.of(workload.name, size)
    medians = spreads(results, workload, size)
    ours = next((medians[entry].median for entry in medians if entry.startswith("muster/")), None)
    extras = extra_values(found, workload)
    rows = [
        [
            "system",
            workload.headline,
            "min – max",
            "Muster ÷ it",
            *extras,
            "CPU s",
            "peak MiB",
            "engine CPU s",
            "start-up s",
        ]
    ]
    for entry in ordered(medians, workload.better):
        samples = found[entry]
        middle = medians[entry]
        rows.append(
            [
                name_of(entry) + projection(samples),
                number(middle.median),
                f"{number(middle.low)} – {number(middle.high)}",
                "" if ours is None or entry.startswith("muster/") else times(ours, middle.median),
                *(middle_of(values_of(samples, name)) for name in extras),
                middle_of(cpu_of(samples)),
                middle_of([peak / MIB for peak in peaks_of(samples)]),
                middle_of(cpu_of(samples, ["engine"])),
                middle_of([sample.startup_s for sample in samples if sample.repeats]),
            ]
        )
    lines = [f"### {title(workload, size)}", table(rows), *problems(found)]
    cost = services_cost(found.get("muster/warm", []), size)
    return "\n\n".join([*lines, *([cost] if cost and workload.name == "noop" else [])])


def services_cost(samples: Sequence[Sample], size: int) -> str:
    """CPU of Muster's own parts for one input."""
    parts = {role: cpu_of(samples, [role]) for role in ("client", *SERVICES, "containers")}
    if not all(parts.values()):
        return ""
    each = ", ".join(f"{role} {1e6 * median(used) / size:.2f}" for role, used in parts.items())
    both = 1e6 * median(cpu_of(samples, SERVICES)) / size
    return f"CPU of Muster's parts for each input, in us: {each}; gateway and agent {both:.2f} (goal: under 0.5)."


def spreads(results: Results, workload: Workload, size: int) -> dict[str, Spread]:
    """The headline value of each entry that has one."""
    found = {
        entry: values_of(samples, workload.headline)
        for entry, samples in results.of(workload.name, size).items()
    }
    return {entry: spread(values) for entry, values in found.items() if values}


def best_peer(found: dict[str, Spread], better: str) -> str | None:
    peers = {entry: value for entry, value in found.items() if not entry.startswith("muster/")}
    return next(iter(ordered(peers, better)), None)


def ordered(found: dict[str, Spread], better: str) -> list[str]:
    """Entries, the best first."""
    return sorted(found, key=lambda entry: found[entry].median * (1 if better == "lower" else -1))


def extra_values(found: dict[str, list[Sample]], workload: Workload) -> list[str]:
    """Names of values beside the headline, in the workload's order."""
    names = [
        name
        for samples in found.values()
        for sample in samples
        for repeat in sample.repeats
        for name in repeat.values
    ]
    return [name for name in dict.fromkeys(names) if name != workload.headline]


def problems(found: dict[str, list[Sample]]) -> list[str]:
    """What could not be measured, or not be stopped, and why."""
    said = {
        f"{'Trouble at the end' if sample.repeats else 'Not measured'}: {name_of(entry)}: {sample.error}"
        for entry, samples in found.items()
        for sample in samples
        if sample.error
    }
    return sorted(said)


def projection(samples: Sequence[Sample]) -> str:
    partial = {sample.job.count for sample in samples if sample.job.count < sample.job.size}
    return f" (projected from {min(partial):,})" if partial else ""


def name_of(entry: str) -> str:
    system, _, variant = entry.partition("/")
    return f"**{TITLES[system]}**" if entry == "muster/warm" else f"{TITLES[system]}, {variant}"


def title(workload: Workload, size: int) -> str:
    return workload.title.format(size=f"{size:,}")


def shown(found: Spread, unit: str) -> str:
    return f"{number(found.median)} {unit} ({number(found.low)} – {number(found.high)})"


def times(ours: float, theirs: float) -> str:
    found = ratio(ours, theirs)
    return "–" if found is None else f"{number(found)} x"


def middle_of(values: Sequence[float]) -> str:
    return number(median(values)) if values else ""


def number(value: float) -> str:
    """Three digits that mean something; whole numbers whole."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{2 if abs(value) >= 1 else 3}f}" if abs(value) < 10 else f"{value:.1f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def one_line(sample: Sample) -> str:
    """A job's outcome, for the terminal."""
    job = sample.job
    head = f"{job.workload} {job.size:,} {job.entry}"
    if not sample.repeats:
        return f"{head}: {sample.error}"
    headline = WORKLOADS[job.workload].headline
    middle = median(values_of([sample], headline))
    text = f"{head}: {number(middle)} {headline}{projection([sample])}, start-up {number(sample.startup_s)} s"
    return f"{text}; {sample.error}" if sample.error else text
