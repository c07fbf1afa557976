"""Fixtures of a service whose one host installs from a folder of small wheels, and of a client that has them."""

import sys

import pytest

from . import wheels
from .service import Service

GREETER = """from e2e_words import WORD
def greet(x):
    return f'{{WORD}} {{x}} {}'
"""
WORDS = """WORD = 'hello'
class Word:
    def __init__(self, text):
        self.text = text
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder of wheels: what hosts install from."""
    folder = tmp_path_factory.mktemp("wheels")
    folder.chmod(0o755)
    for version in ("1.0", "2.0"):
        wheels.wheel(
            folder,
            "e2e_greeter",
            version,
            {"e2e_greeter/__init__.py": GREETER.format(version)},
            requires=["e2e-words>=1", "e2e-windows ; sys_platform == 'win32'"],
        )
    wheels.wheel(folder, "e2e_words", "1.5", {"e2e_words.py": WORDS})
    wheels.wheel(folder, "e2e_old", "1.0", {"e2e_old.py": ""}, tag="cp27-none-any")
    return folder


@pytest.fixture
def client(index, tmp_path, monkeypatch):
    """This process has the packages installed, as a user's environment would."""
    for name in ("e2e_greeter-1.0", "e2e_words-1.5"):
        site = wheels.install(index / f"{name}-py3-none-any.whl", tmp_path)
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in ("e2e_greeter", "e2e_words"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def installing(index, tmp_path_factory):
    """A service of one agent that installs from the folder."""
    folder = tmp_path_factory.mktemp("installing")
    with Service(folder / "service") as service:
        agent = service.add_agent("--cpus", "0-1", "--ram", "4GiB", *from_folder(index))
        service.packages = packages_of(agent)
        yield service


@pytest.fixture
def host(installing, monkeypatch):
    """The same, with the environment that leads the SDK to it."""
    for variable, value in installing.environment.items():
        monkeypatch.setenv(variable, value)
    yield installing
    installing.wait_idle()


def from_folder(folder):
    """The flags of an agent that installs from a folder of wheels alone."""
    return (
        "--uv", wheels.uv(), "--package-index", "none", "--package-folder", folder,
        "--package-network", "none",
    )  # fmt: skip


def packages_of(agent):
    """The folder where an agent has what it built."""
    return agent.cache / "packages"


def environments(service):
    """What the host has built."""
    return {path.name for path in service.packages.glob("*") if path.name != "building"}
