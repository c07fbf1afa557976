"""Packages follow the client: what a function imports is on the host, at the client's version, built once."""

import importlib
import json
import re
import subprocess

import muster
import pytest
from harness import held, wheels
from harness.curl import started
from harness.index import HeldIndex
from harness.packaged import environments, from_folder, packages_of
from harness.small import small_map
from harness.wait import until


def greet(x):
    import e2e_greeter

    return e2e_greeter.greet(x)


def version_of(_):
    from importlib.metadata import version

    return version("e2e_greeter"), version("e2e_words")


def test_a_function_finds_the_packages_of_its_client_at_the_same_versions(host, client):
    assert small_map(greet, ["you", "all"]) == ["hello you 1.0", "hello all 1.0"]
    built = environments(host)
    assert built
    greeter = importlib.import_module("e2e_greeter")
    assert small_map(greeter.greet, ["me"]) == ["hello me 1.0"]
    assert environments(host) == built


def test_calls_that_need_the_same_wait_for_one_build_and_the_next_takes_a_warm_worker(host):
    agent = host.agents[0]

    def told(what):
        return agent.log.read_text().count(what)

    def claimed():
        return set(re.findall(r'worker claimed.* worker="([^"]+)"', agent.log.read_text()))

    def f(x):
        from e2e_words import WORD

        return f"{WORD} {x}"

    before, more = told("environment built"), {"packages": ["e2e-words<2"], "func_ram": 0.25}
    calls = [muster.remote_parallel_map(f, [n], background=True, **more) for n in range(3)]
    assert [call.results(timeout=40) for call in calls] == [[f"hello {n}"] for n in range(3)]
    assert told("environment built") == before + 1

    def takes_a_warm_worker():
        there, used = set(agent.containers()), claimed()
        assert small_map(f, [3], packages=more["packages"]) == ["hello 3"]
        (worker,) = claimed() - used
        return worker in there

    # Those of this image may still be on their way when the first call comes.
    until("a call takes a worker that was there before it", takes_a_warm_worker, 30, interval=1)
    assert told("environment built") == before + 1


@pytest.mark.parametrize("packages", [["e2e-words<2"], None])
def test_packages_cost_a_worker_no_imports(host, packages):
    """What a worker imports before its function runs is what every call waits for."""

    def imported(_):
        import sys

        return set(sys.modules)

    (found,) = small_map(imported, [1], packages=packages)
    assert not found & {"importlib.metadata", "email", "zipfile"}


def test_packages_can_be_named_and_left_out(host, client, tmp_path):
    assert small_map(version_of, [1], packages=["e2e-greeter==2.0"]) == [("2.0", "1.5")]
    # Without a version it is the one installed here.
    assert small_map(version_of, [1], packages=["e2e_greeter"]) == [("1.0", "1.5")]
    listed = tmp_path / "requirements.txt"
    listed.write_text("# what we need\ne2e-greeter == 2.0  # the new one\n-e .\n")
    assert small_map(version_of, [1], packages=listed) == [("2.0", "1.5")]
    with pytest.raises(ModuleNotFoundError, match="e2e_greeter"):
        small_map(greet, [1], packages=None)


def test_what_cannot_be_had_fails_the_call_at_once_with_its_name_and_leaves_nothing(host):
    before = environments(host)
    with pytest.raises(muster.PackageError, match="e2e-nowhere==1.*not found.*packages=") as error:
        small_map(version_of, [1], packages=["e2e-nowhere==1", "e2e-words"])
    assert error.value.code == "package_unavailable"
    with pytest.raises(muster.PackageError, match="e2e-old==1.0 cannot be had") as error:
        small_map(version_of, [1], packages=["e2e-old==1.0"])
    assert error.value.code == "package_unavailable"
    assert environments(host) == before
    assert list((host.packages / "building").iterdir()) == []


def test_a_host_without_an_installer_says_so(own_service, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
    own_service().add_agent("--cpus", "0")
    with pytest.raises(muster.PackageError, match="no installer.*--uv") as error:
        small_map(version_of, [1], packages=["e2e-words"])
    assert error.value.code == "packages_failed"


def test_what_is_installed_from_a_folder_travels_as_source(host, client, tmp_path):
    source = tmp_path / "project"
    source.mkdir()
    info = client / "e2e_greeter-1.0.dist-info"
    (info / "direct_url.json").write_text(json.dumps({"url": f"file://{source}", "dir_info": {}}))
    (client / "e2e_greeter" / "__init__.py").write_text(
        "from e2e_words import WORD\ndef greet(x):\n    return f'{WORD} {x} from source'\n"
    )
    assert small_map(greet, ["me"]) == ["hello me from source"]


def test_an_editable_package_travels_as_source_with_what_it_imports(
    host, client, tmp_path, monkeypatch
):
    """As installers leave it: its folder is on the path, and its description elsewhere."""
    source = tmp_path / "project" / "src"
    (source / "e2e_mine").mkdir(parents=True)
    (source / "e2e_mine" / "__init__.py").write_text(
        "from e2e_words import WORD\ndef shout(x):\n    return f'{WORD.upper()} {x}'\n"
    )
    info = client / "e2e_mine-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: e2e-mine\nVersion: 0.1\nRequires-Dist: e2e-words\n")
    (info / "RECORD").write_text("__editable__.e2e_mine-0.1.pth,,\n")
    origin = {"url": f"file://{tmp_path / 'project'}", "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(str(source))
    mine = importlib.import_module("e2e_mine")
    assert small_map(lambda x: mine.shout(x), ["you"]) == ["HELLO you"]


def test_inputs_bring_the_packages_of_their_types(host, client):
    words = importlib.import_module("e2e_words")
    assert small_map(lambda word: word.text, [words.Word("hi")]) == ["hi"]


def test_what_is_being_installed_is_told(host):
    more = {"packages": ["e2e-words>1.4"], "func_ram": 0.25, "background": True}
    call = muster.remote_parallel_map(abs, [1], **more)
    _, _, body = host.api.request("GET", f"/v1/calls/{call.id}/events", timeout=40)
    events = [json.loads(line) for line in body.splitlines()]
    told = {event["waiting"] for event in events if event["type"] == "progress"}
    words = r"environment [0-9a-f]{4}: (starting the installer for|fetching|unpacking) 1 packages"
    assert any(re.fullmatch(words, why or "") for why in told), told


def test_of_several_packages_it_is_told_which_one_and_how_many_there_are(own_service, tmp_path):
    """The installer names those of more than a megabyte that it fetches from an index."""
    names = {"e2e-first", "e2e-second"}
    for name in names:
        module = name.replace("-", "_")
        wheels.wheel(tmp_path, module, "1.5", {f"{module}.py": f"SIZE = {'x' * (2 << 20)!r}"})
    with HeldIndex(tmp_path) as index:
        service = own_service()
        service.add_agent(
            "--cpus", "0", "--ram", "2GiB", "--warm", "0", "--uv", wheels.uv(),
            "--package-index", index.url, "--package-network", "host",
        )  # fmt: skip

        def f(name):
            return len(importlib.import_module(name.replace("-", "_")).SIZE)

        more = {"packages": [f"{name}==1.5" for name in sorted(names)], "func_ram": 0.25}
        call = muster.remote_parallel_map(f, sorted(names), background=True, **more)
        with started(service, f"/v1/calls/{call.id}/events", cwd=tmp_path) as stream:
            stream.wait_for(b", 2 of 2", 30)
            index.let_go()
            told = [json.loads(line).get("waiting") or "" for line in stream.succeed().splitlines()]
        words = r"environment [0-9a-f]{4}: installing (e2e-first|e2e-second) 1\.5, 2 of 2"
        assert any(re.fullmatch(words, why) for why in told), told
        assert call.results(timeout=30) == [2 << 20] * 2


def test_no_credential_of_the_index_reaches_a_container_of_a_call(own_service, index, tmp_path):
    service = own_service()
    secret = "e2e-secret-of-the-index"
    agent = service.add_agent(
        "--cpus", "0", "--uv", wheels.uv(), "--package-folder", index, "--package-network", "none",
        "--package-index", f"http://me:{secret}@127.0.0.1:9/simple"
    )  # fmt: skip

    def look(_):
        import os

        return dict(os.environ)

    assert secret not in repr(small_map(look, [1]))
    with pytest.raises(muster.PackageError) as error:
        small_map(look, [1], packages=["e2e-nowhere"])
    assert error.value.code in ("packages_failed", "package_unavailable")
    assert secret not in str(error.value)
    inspected = subprocess.run(
        ["docker", "inspect", *agent.containers()], capture_output=True, text=True, check=False
    )
    assert secret not in inspected.stdout
    assert secret not in agent.log.read_text()


def test_what_one_host_has_built_the_next_one_gets(own_service, index):
    service = own_service()
    # The place of the wheels is part of what an environment is.
    more = ["--ram", "1GiB", "--warm", "0", *from_folder(index)]
    first = service.add_agent("--cpus", "0", *more)

    def log_of(agent):
        return agent.log.read_text()

    def f(x):
        from e2e_words import WORD

        return f"{WORD} {x}"

    assert small_map(f, [1], packages=["e2e-words==1.5"]) == ["hello 1"]
    until("it has been given to the gateway", lambda: "environment shared" in log_of(first), 30)
    first.wait_idle()
    first.terminate()
    first.wait_stopped()
    second = service.add_agent("--cpus", "1", *more)
    assert small_map(f, [2], packages=["e2e-words==1.5"]) == ["hello 2"]
    assert log_of(second).count("environment fetched") == 1
    assert "environment built" not in log_of(second)
    site = packages_of(second)
    (built,) = [path for path in site.iterdir() if path.name != "building"]
    assert (built / "e2e_words.py").is_file()
    assert list((site / "building").iterdir()) == []


def test_two_hosts_that_need_the_same_at_once_both_have_it_whole(own_service, index):
    service = own_service()
    for cpu in "01":
        service.add_agent("--cpus", cpu, "--ram", "1GiB", "--warm", "0", *from_folder(index))

    def f(_):
        from e2e_words import WORD

        return WORD, muster.current().host

    # On one core each, so both hosts work at the same time.
    with held(f, range(2), packages=["e2e-words==1.5"]) as found:
        assert sorted(found) == sorted(("hello", agent.name) for agent in service.agents)
    logs = [agent.log.read_text() for agent in service.agents]
    counts = [(log.count("environment built"), log.count("environment fetched")) for log in logs]
    assert [sum(count) for count in counts] == [1, 1], "each has built it, or had it from the other"
    assert sum(built for built, _ in counts) >= 1
    for agent in service.agents:
        (path,) = (path for path in packages_of(agent).iterdir() if path.name != "building")
        assert (path / "e2e_words.py").is_file()
        assert {found.name for found in path.glob("*.dist-info")} == {"e2e_words-1.5.dist-info"}


def test_an_environment_in_use_is_not_given_up_for_another(own_service, tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir(mode=0o755)
    for name in ("e2e_one", "e2e_two", "e2e_three"):
        wheels.wheel(folder, name, "1", {f"{name}.py": f"{name} = {'x' * 400_000!r}"})
    agent = own_service().add_agent(
        "--cpus", "0-1", "--ram", "4GiB", "--package-cache", "1MiB", *from_folder(folder)
    )  # fmt: skip
    site = packages_of(agent)

    def kept():
        return {path.stem for path in site.glob("*/e2e_*.py")}

    def imported(name):
        import importlib

        return len(getattr(importlib.import_module(name), name))

    def use(name):
        return small_map(imported, [name], packages=[name.replace("_", "-")])

    def names():
        yield "e2e_one"
        # While the worker of these inputs lives.
        until("it is built", lambda: kept() == {"e2e_one"})
        assert use("e2e_two") == [400_000]
        assert kept() == {"e2e_one", "e2e_two"}
        yield "e2e_one"

    assert small_map(imported, names(), packages=["e2e-one"]) == [400_000] * 2
    agent.wait_idle()
    assert use("e2e_three") == [400_000]
    assert "e2e_one" not in kept()
