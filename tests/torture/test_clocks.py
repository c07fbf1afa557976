"""The clock of a machine jumps by a day, forward and back: F14."""

import re
import time
from pathlib import Path

import pytest
from checker import check, slow_digest
from harness import small_map, until

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
DAY = 24 * 3600
SMALL = ("--cpus", "0-1", "--ram", "1GiB", "--warm", "1")

pytestmark = pytest.mark.long


class Clock:
    """A wall clock for daemons, which libfaketime reads from a file; monotonic clocks stay true."""

    def __init__(self, folder):
        assert LIBRARIES, "libfaketime is not installed; `scripts/setup.sh torture` installs it"
        self._file = folder / "clock"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds):
        """So far from the machine's own clock."""
        after = self._file.with_suffix(".new")
        after.write_text(f"{seconds:+d}\n")
        after.rename(self._file)


def days(log):
    """The days that a daemon's log speaks of."""
    return set(re.findall(r"^(\d{4}-\d\d-\d\d)T", log.read_text(), re.MULTILINE))


@pytest.mark.parametrize("whose", ["gateway", "agent"])
@pytest.mark.deadline(120)
def test_nothing_expires_early_when_a_clock_jumps_by_a_day(own_service, tmp_path, whose, moments):
    clock = Clock(tmp_path)
    theirs = {"gateway": None, "agent": None, whose: clock.environment}
    # An hour each: a jump would use them up.
    bounds = ("--keep-background", "1h", "--upload-grace", "1h", "--keep-foreground", "1h")
    service = own_service(*bounds, environment=theirs["gateway"])
    agent = service.add_agent(*SMALL, environment=theirs["agent"])
    ended = small_map(slow_digest(0), range(4), background=True)
    check(service, ended, 4, 30)
    call = small_map(slow_digest(0.1), range(160), background=True)
    jumps = [DAY, -DAY, 0]
    moments.shuffle(jumps)
    for number, jump in enumerate(jumps, 1):
        until("it goes on", lambda: service.api.call(call.id)["done"] >= 40 * number, 30)  # noqa: B023
        time.sleep(moments.uniform(0, 0.5))
        clock.set(jump)
        check(service, small_map(slow_digest(0), range(4), background=True), 4, 30)
        assert agent.status()["state"] == "ready"
    attempts = check(service, call, 160, 60)
    assert set(attempts.values()) == {1}, attempts
    check(service, ended, 4, 10)
    log = service.folder / "gateway.log" if whose == "gateway" else agent.log
    assert len(days(log)) == 3, "the day before, and the day after"
