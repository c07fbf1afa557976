"""The page: tables between markers, and plots beside it. What people wrote around the markers stays."""

from __future__ import annotations

from pathlib import Path

from .plots import Bar, bar_chart
from .results import Results
from .tables import name_of, number, ordered, projection, report, spreads, title
from .workloads import WORKLOADS
from .workloads.base import Workload

BEGIN = "<!-- bench: begin (written by `make bench`; edits here are lost) -->"
END = "<!-- bench: end -->"


def write(page: Path, results: Results) -> None:
    """Puts tables into the page and plots into the folder of the page's name beside it."""
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for name, text in charts(results).items():
        (folder / name).write_text(text)
        images.append(f"![{name.removesuffix('.svg')}]({folder.name}/{name})")
    page.write_text(
        replaced(page.read_text(), "\n\n".join([report(results).rstrip(), "### Plots", *images]))
    )


def replaced(text: str, between: str) -> str:
    """The text with what lies between the markers exchanged."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the two markers {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{between}\n\n{END}{after}"


def charts(results: Results) -> dict[str, str]:
    """SVG by file name."""
    found = {}
    for workload in WORKLOADS.values():
        for size in results.sizes(workload.name):
            if spreads(results, workload, size):
                found[f"{workload.name}-{size}.svg"] = chart(results, workload, size)
    return found


def chart(results: Results, workload: Workload, size: int) -> str:
    medians = spreads(results, workload, size)
    samples = results.of(workload.name, size)
    bars = [
        Bar(
            label=name_of(entry).replace("*", "")
            + (" (projected)" if projection(samples[entry]) else ""),
            value=medians[entry].median,
            low=medians[entry].low,
            high=medians[entry].high,
            text=number(medians[entry].median),
            ours=entry.startswith("muster/"),
        )
        for entry in ordered(medians, workload.better)
    ]
    better = "shorter is better" if workload.better == "lower" else "longer is better"
    note = f"{workload.headline.replace('_', ' ')}, {better}; logarithmic; the line is from least to most"
    return bar_chart(title(workload, size), bars, note)
