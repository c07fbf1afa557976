"""Starts a gateway and an agent with the end-to-end tests' harness, which also sees to it that nothing of them is left:
`python -m muster_bench.service [AGENT FLAG...]`.

Prints where the service is, as one line of JSON, and stops it when stdin ends. tests/e2e must be on the Python path.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

from harness import daemon
from harness.service import Service


def main(flags: list[str]) -> None:
    # The tests want to know more than a user, who leaves the logs as they are.
    daemon.LOGS = {"NO_COLOR": "1"}
    with (
        tempfile.TemporaryDirectory(prefix="muster-bench-") as folder,
        Service(os.path.join(folder, "s")) as service,
    ):
        cold = "--warm" in flags and flags[flags.index("--warm") + 1] == "0"
        # The agent's own default.
        warm = 0 if cold else max(2, len(os.sched_getaffinity(0)))
        agent = service.add_agent(*flags, warm=warm)
        facts = {
            "url": service.url,
            "token": service.token,
            "gateway": service.gateway.pid,
            "agent": agent.daemon.pid,
            "host": agent.name,
            "warm": warm,
        }
        print(json.dumps(facts), flush=True)
        sys.stdin.read()
        service.wait_idle(60)


if __name__ == "__main__":
    main(sys.argv[1:])
