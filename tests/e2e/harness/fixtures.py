"""Fixtures for every folder of tests that starts services."""

import contextlib

import pytest

from .service import Service


@pytest.fixture
def own_service(tmp_path, monkeypatch):
    """Starts services of the test's own: `own_service(gateway arguments...)`. Stopped and looked
    after at its end."""
    with contextlib.ExitStack() as stack:

        def start(*gateway, **options):
            name = f"service-{len(list(tmp_path.iterdir()))}"
            started = stack.enter_context(Service(tmp_path / name, gateway, **options))
            for variable, value in started.environment.items():
                monkeypatch.setenv(variable, value)
            return started

        yield start
