"""Fixtures of the client's tests."""

import faulthandler
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from fake_agent import Agent
from fake_gateway import TOKEN, Gateway

faulthandler.dump_traceback_later(300, exit=True)

# How long an example takes says what else the machine does.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A fake gateway that this process's `muster` finds by its environment."""
    with Gateway() as gateway:
        monkeypatch.setenv("MUSTER_URL", gateway.url)
        monkeypatch.setenv("MUSTER_TOKEN", TOKEN)
        yield gateway


@pytest.fixture
def agent() -> Iterator[Agent]:
    """A real runner, and the agent's part beside it."""
    with Agent() as agent:
        yield agent


# Holds inputs of functions that the fake runs in this process.
SLOW = threading.Event()
