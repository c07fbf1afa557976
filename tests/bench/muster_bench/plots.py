"""Bar charts as SVG: one for each workload, lengths on a logarithmic scale. Pure, and without a library."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 860
ROW = 26
LABEL = 300
VALUE = 110
HEAD = 44
OURS, THEIRS, INK, FAINT = "#d9480f", "#4c6ef5", "#333333", "#999999"


@dataclass(frozen=True)
class Bar:
    """One system: its median, and the least and the most seen."""

    label: str
    value: float
    low: float
    high: float
    text: str
    ours: bool


def bar_chart(title: str, bars: Sequence[Bar], note: str) -> str:
    """The bars in their order. Lengths are logarithms, because peers lie up to four powers of ten apart."""
    values = [value for bar in bars for value in (bar.low, bar.value, bar.high) if value > 0]
    lowest, highest = (min(values), max(values)) if values else (1.0, 1.0)
    # The shortest bar keeps a visible length.
    bottom = math.log10(lowest) - 0.25
    room = WIDTH - LABEL - VALUE
    scale = room / max(math.log10(highest) - bottom, 1e-9)

    def length(value: float) -> float:
        return max(1.0, (math.log10(value) - bottom) * scale) if value > 0 else 1.0

    height = HEAD + ROW * len(bars) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="18" font-weight="bold" fill="{INK}">{escape(title)}</text>',
        f'<text x="8" y="34" font-size="11" fill="{FAINT}">{escape(note)}</text>',
    ]
    for row, bar in enumerate(bars):
        lines += _bar(bar, HEAD + ROW * row, length)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _bar(bar: Bar, top: float, length: Callable[[float], float]) -> list[str]:
    middle = top + ROW / 2
    end = LABEL + length(bar.value)
    low, high = LABEL + length(bar.low), LABEL + length(bar.high)
    return [
        f'<text x="{LABEL - 8}" y="{middle + 4:.1f}" text-anchor="end" fill="{INK}">{escape(bar.label)}</text>',
        f'<rect x="{LABEL}" y="{top + 4:.1f}" width="{end - LABEL:.1f}" height="{ROW - 8}" '
        f'fill="{OURS if bar.ours else THEIRS}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}" stroke="{INK}" stroke-width="2"/>',
        f'<text x="{max(end, high) + 6:.1f}" y="{middle + 4:.1f}" fill="{INK}">{escape(bar.text)}</text>',
    ]
