"""The command `muster`: look at calls and hosts, follow or cancel a call, drain a host."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Optional

from ._errors import MusterError

_FAILED = 1


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="muster", description=__doc__)
    parser.add_argument(
        "--url", help="the gateway (default: MUSTER_URL, or this machine's own service)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("calls", help="list the calls the gateway knows")
    commands.add_parser("hosts", help="list the connected hosts")
    for name, help_ in (
        ("status", "how a call is now"),
        ("wait", "wait until a call has ended; fails if the call did"),
        ("logs", "what a call has printed so far"),
        ("cancel", "stop a call"),
    ):
        commands.add_parser(name, help=help_).add_argument("id", help="the call's id")
    drain = commands.add_parser("drain", help="have a host finish what it runs and take no more")
    drain.add_argument("host", help="the host's name")
    drain.add_argument("--undo", action="store_true", help="let it take work again")
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen)
    except MusterError as error:
        print(f"muster: {error}", file=sys.stderr)
        return _FAILED


def _run(chosen: argparse.Namespace) -> int:
    from . import _call

    if chosen.command == "calls":
        _table(["call", "state", "done", "total", "name"], [
            [
                c.id, c.state + (", expired" if c.expired else ""), str(c.done),
                "?" if c.total is None else str(c.total), c.name,
            ]
            for c in _call.calls(chosen.url)
        ])  # fmt: skip
        return 0
    if chosen.command == "hosts":
        _table(["host", "state", "cores", "free", "ram GB", "free", "images", "shares"], [
            [
                str(host.get("host")), str(host.get("state", "?")),
                f"{host.get('cores', 0):g}", f"{host.get('free_cores', 0):g}",
                f"{host.get('ram_bytes', 0) / 2**30:.1f}", f"{host.get('free_ram_bytes', 0) / 2**30:.1f}",
                " ".join(str(image.get("name")) for image in host.get("images", [])),
                " ".join(map(_share, host.get("shares", []))) or "-",
            ]
            for host in _call.hosts(chosen.url)
        ])  # fmt: skip
        return 0
    if chosen.command == "drain":
        host = _call.drain(chosen.host, chosen.undo, chosen.url)
        print(f"{host['host']} {host['state']}")
        return 0
    call = _call.Call(chosen.id, url=chosen.url)
    if chosen.command == "logs":
        sys.stdout.write(call.logs())
        return 0
    if chosen.command == "cancel":
        call.cancel()
        return 0
    status = call.wait() if chosen.command == "wait" else call.status()
    total = "?" if status.total is None else status.total
    print(
        f"{status.id} {status.state} {status.done}/{total}"
        + (f" ({status.waiting})" if status.waiting else "")
    )
    return 0 if chosen.command == "status" or status.state == "succeeded" else _FAILED


def _share(share: dict[str, Any]) -> str:
    mode = "rw" if share.get("writable") else "ro"
    return f"{share.get('name')}:{mode}" + ("" if share.get("there") else ":absent")


def _table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
