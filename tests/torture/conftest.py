"""Faults of processes and networks, on real Docker, at random moments from a printed seed.

The harness is that of the end to end tests; so are its rules: a deadline for each test, and nothing
left behind. `MUSTER_SEED` fixes the moments, `MUSTER_ROUNDS` says how often each fault comes (1).
"""

import os
import random
import secrets
import sys
from pathlib import Path

import pytest

E2E = Path(__file__).resolve().parent.parent / "e2e"
sys.path.insert(0, str(E2E))

from harness import evidence  # noqa: E402
from harness.fixtures import own_service  # noqa: E402, F401

SEED = int(os.environ.get("MUSTER_SEED") or secrets.randbits(32))
ROUNDS = int(os.environ.get("MUSTER_ROUNDS") or 1)


def pytest_report_header():
    return f"MUSTER_SEED={SEED} MUSTER_ROUNDS={ROUNDS}"


def pytest_generate_tests(metafunc):
    if "moments" in metafunc.fixturenames:
        metafunc.parametrize("moments", range(ROUNDS), indirect=True)


@pytest.fixture
def seed():
    """For tools that make up their own moments."""
    return SEED


@pytest.fixture
def moments(request):
    """Random moments: the same for the same seed, test and round."""
    return random.Random(f"{SEED} {request.node.originalname} {request.param}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keeps the evidence of a failure while the services still run, and says where it is."""
    del call
    report = yield
    if report.failed:
        folder = evidence.keep(item.name, report.when, report.longreprtext)
        report.sections.append(("evidence", f"kept in {folder}, MUSTER_SEED={SEED}"))
    return report
