"""Each example does its work as a user runs it, on small settings.

Those that need packages get them from wheels made of what is installed here, so no index is asked.
"""

import re
import sys

import pytest
from harness import Script, wheels
from harness.packaged import from_folder
from harness.service import ROOT, Service

EXAMPLES = ROOT / "examples"
# Runs whole in `make demo`; and what the others share.
NOT_HERE = {"demo", "beside_serial"}
STANDARD_LIBRARY = {
    "nested": r"9,592 primes below 100,000",
    "rate_limited_fetch": r"12 pages of 9,800 bytes, at most [1-4] at a time",
    "shell_commands": r"(seq 20000 \| gzip -\d \| wc -c +0 +\d{5} .*\n){9}",
}
WITH_PACKAGES = {
    "grid_search": ("sklearn", r"300 images, 4 points(.|\n)*accuracy 0\.9"),
    "hurricanes": ("numpy", r"40,000 seasons in 20 tasks"),
    "parquet_statistics": ("pyarrow", r"4 files(.|\n)*Rome +[67]\d\d "),
    "thumbnails": ("PIL", r"6 photographs of (.|\n)*contact sheet of 1280 x 160"),
}
COMPARED = r"Muster \d+\.\d\d s, plain loop here \d+\.\d\d s"


def run(service, name, folder, expected):
    command = [sys.executable, EXAMPLES / f"{name}.py", "--small"]
    with Script(command, cwd=folder, env=service.environment) as script:
        printed = script.succeed(90).decode()
    assert re.search(expected, printed), printed
    assert re.search(COMPARED, printed), printed


@pytest.fixture(scope="module")
def installing(tmp_path_factory):
    """A service of one agent that installs from a folder of wheels, the second."""
    folder, local = tmp_path_factory.mktemp("installing"), tmp_path_factory.mktemp("wheels")
    local.chmod(0o755)
    with Service(folder) as service:
        service.add_agent("--cpus", "0-1", "--ram", "6GiB", *from_folder(local))
        yield service, local


def test_every_example_is_tested_and_has_its_line_in_the_list():
    names = {path.stem for path in EXAMPLES.glob("*.py")} - NOT_HERE
    assert names == {*STANDARD_LIBRARY, *WITH_PACKAGES}
    listed = (EXAMPLES / "README.md").read_text()
    assert [name for name in names if f"[{name}.py]({name}.py)" not in listed] == []


def test_packages_of_examples_have_the_versions_of_the_development_lock():
    def pins(path):
        lines = [line for line in path.read_text().splitlines() if "==" in line]
        return dict(line.split("==") for line in lines)

    locked = pins(ROOT / "sdk" / "python" / "dev-lock.txt")
    ours = pins(EXAMPLES / "requirements.txt")
    assert {name: ours[name] for name in ours.keys() & locked} == {
        name: locked[name] for name in ours.keys() & locked
    }


@pytest.mark.deadline(120)
@pytest.mark.parametrize("name", STANDARD_LIBRARY)
def test_an_example_of_the_standard_library_does_its_work(service, tmp_path, name):
    run(service, name, tmp_path, STANDARD_LIBRARY[name])


@pytest.mark.deadline(180)
@pytest.mark.parametrize("name", WITH_PACKAGES)
def test_an_example_that_needs_packages_does_its_work(installing, tmp_path, name):
    module, expected = WITH_PACKAGES[name]
    service, local = installing
    wheels.repack(module, local)
    run(service, name, tmp_path, expected)
    service.wait_idle()
