"""The harness: real gateways, agents and containers, and nothing of them left afterwards.

Who owns what:

- `service.Service` owns one gateway, its agents and their folders. It starts them, waits until they
  can work, stops them with SIGTERM, asserts that each exits with 0 in time, and then asks
  `leftovers` whether anything is left.
- `daemon.Daemon` owns one process and its log file. The process dies with the test run, even if
  that is killed.
- `leftovers` looks for what an agent may leave behind: containers, cgroups, sockets, networks,
  firewall rules, processes.
- `script.Script` owns one client in a process of its own (a user's script, a REPL, a `curl`), and
  reads what it prints while it runs.
- `api.Api` speaks to a gateway's HTTP routes for the tests' own observations; the tests of curl use
  `curl` itself.
- `evidence` keeps daemons' logs, the calls' records and the containers' state of a test that
  failed.

All waiting is `wait.until`: a named condition and a deadline. Every agent has a name made from this
run's id, and all it makes in Docker carries that name, so several runs (and a `make demo`) on one
machine do not disturb each other.
"""

from .held import held
from .script import Script
from .service import Service
from .small import small_map
from .wait import until

__all__ = ["Script", "Service", "held", "small_map", "until"]
