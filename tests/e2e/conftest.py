"""Fixtures: the service most tests share, services of a test's own, and evidence."""

import contextlib
import sys

import pytest
from harness import Script, evidence
from harness.docker import docker
from harness.fixtures import own_service  # noqa: F401
from harness.packaged import client, host, index, installing  # noqa: F401
from harness.service import RUN, Service

FAILED = pytest.StashKey[bool]()
LEFTOVER = f"muster-e2e-{RUN}-leftover"
IMAGE = f"muster/python:{sys.version_info[0]}.{sys.version_info[1]}"


def pytest_runtest_setup(item):
    del item
    evidence.forget_stopped()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keeps the evidence of a failure while the services still run, and says where it is."""
    del call
    report = yield
    if report.failed:
        item.stash[FAILED] = True
        folder = evidence.keep(item.name, report.when, report.longreprtext)
        report.sections.append(("evidence", f"kept in {folder}"))
    return report


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory):
    """A gateway and one agent with two cores, for the whole run."""
    with Service(tmp_path_factory.mktemp("service")) as service:
        agent = service.add_agent("--cpus", "0-1", "--ram", "6GiB")
        # As a crash would leave it; made here, so that the test that waits for its end waits less.
        docker("create", "--label", agent.label, "--name", LEFTOVER, IMAGE, "true")
        yield service


@pytest.fixture
def service(shared_service, monkeypatch, request):
    """The shared service, with the environment that leads the SDK to it. A test leaves no worker
    behind in it."""
    for name, value in shared_service.environment.items():
        monkeypatch.setenv(name, value)
    yield shared_service
    if request.node.stash.get(FAILED, False):
        # It may have been interrupted anywhere; the tests after it are not to suffer for it.
        shared_service.cancel_all()
    shared_service.wait_idle()


@pytest.fixture
def leftover(service):
    """The name of a container that carries the shared agent's label, and is nobody's."""
    assert service
    return LEFTOVER


@pytest.fixture
def script(service, tmp_path):
    """Runs Python source as a user's script against the shared service: `script(source)` is a
    started `Script`."""
    with contextlib.ExitStack() as stack:

        def start(source, *arguments, **more):
            return stack.enter_context(
                Script.python(tmp_path, source, *arguments, env=service.environment, **more)
            )

        yield start
