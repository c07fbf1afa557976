"""Scripts of users, run as processes of their own beside a real runner."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

HERE = str(Path(__file__).resolve().parent)
SOURCE = str(Path(__file__).resolve().parent.parent / "src")

PRELUDE = f"""
import sys
sys.path[:0] = [{SOURCE!r}, {HERE!r}]
from fake_agent import Agent
from muster import _payload

class Context:
    call_id = "c-1"
    def fetch_function(self): raise AssertionError("not needed")

def remote(function, inputs):
    with Agent() as agent:
        agent.begin(_payload.dump_function(function))
        results = agent.run([_payload.dump_input(v, n) for n, v in enumerate(inputs)])
    return [
        _payload.load_value(r.item, Context()) if r.status == 0
        else _payload.load_exception(r.item, Context(), r.index, "host-1")
        for r in results
    ]
"""


def script(tmp_path: Path, text: str, *arguments: str) -> str:
    """Runs a script with a `__main__` of its own, and returns what it printed."""
    file = tmp_path / "script.py"
    file.write_text(PRELUDE + textwrap.dedent(text))
    command = [sys.executable, *(arguments or [str(file)])]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# What may be called
