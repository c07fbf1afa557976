"""Shared folders: seen where the call says, as the settings allow, by that call alone; and nothing else of a host."""

import contextlib
import os
import shutil
import subprocess

import muster
import pytest
from harness import held, small_map, until
from harness.curl import as_json, curl
from harness.docker import docker, inspect
from harness.service import programs, runner_folder


@pytest.fixture
def folders(tmp_path):
    """Folders of this host: one to read, one to write to."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir(mode=0o755)
    (data / "table.csv").write_text("a,b\n")
    out.mkdir()
    out.chmod(0o777)
    return data, out


@pytest.fixture
def sharing(own_service, folders):
    """A service whose one host shares both."""
    data, out = folders
    service = own_service()
    service.add_agent(
        "--cpus", "0-1", "--ram", "2GiB", "--share", f"data={data}", "--share", f"out={out}:rw"
    )
    return service


def _seen():
    # Made here, so that it travels by itself: this module needs pytest, which no container has.
    def seen(path):
        return sorted(os.listdir(path)) if os.path.isdir(path) else None

    return seen


@pytest.mark.smoke
def test_a_share_is_read_where_the_call_says_and_no_other_call_sees_it(sharing, folders):
    seen, shares = _seen(), {"data": "/data"}
    with held(seen, ["/data"], shares=shares) as outputs:
        assert outputs == [["table.csv"]]
        # At the same time, from warm containers and cold ones.
        assert small_map(seen, ["/data", "/mnt", "/.muster/mnt"]) == [None, [], []]
        assert small_map(seen, ["/srv/x/data"], shares={"data": "/srv/x/data"}) == [["table.csv"]]
    sharing.wait_idle()
    assert small_map(seen, ["/data"]) == [None]
    assert set(folders[0].iterdir()) == {folders[0] / "table.csv"}


def test_what_may_only_be_read_is_not_written_and_what_may_be_written_is_on_the_host(
    sharing, folders
):
    def write(path):
        try:
            with open(path, "w") as file:
                file.write("from a container")
        except OSError as error:
            return error.errno
        return os.stat(path).st_uid

    shares = {"data": "/data", "out": "/out"}
    read_only, uid = small_map(write, ["/data/new", "/out/new"], shares=shares)
    assert read_only == 30, "EROFS"
    data, out = folders
    assert [path.name for path in data.iterdir()] == ["table.csv"]
    assert (out / "new").read_text() == "from a container"
    assert (out / "new").stat().st_uid == uid > 1000, "a user that is none of the host's"


def test_a_share_brings_neither_devices_nor_rights_into_a_container(sharing, folders):
    _, out = folders
    subprocess.run(["mknod", out / "loop", "b", "7", "0"], check=True)
    (out / "loop").chmod(0o666)
    shutil.copy(shutil.which("id"), out / "setuid")
    (out / "setuid").chmod(0o4755)

    def tries(path):
        import subprocess

        try:
            open(path, "rb").close()
            device = "opened"
        except PermissionError:
            device = "refused"
        who = subprocess.run(["/out/setuid", "-u"], capture_output=True, check=False).stdout
        return device, who.decode().strip(), str(os.getuid())

    ((device, effective, own),) = small_map(tries, ["/out/loop"], shares={"out": "/out"})
    assert device == "refused"
    assert effective == own != "0"


def test_a_share_is_mounted_without_what_is_mounted_below_it(sharing, folders):
    data, _ = folders
    (data / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", data / "below"], check=True)
    try:
        (data / "below" / "hidden").touch()
        assert small_map(_seen(), ["/d/below"], shares={"data": "/d"}) == [[]]
    finally:
        subprocess.run(["umount", data / "below"], check=True)


def test_the_engine_is_given_the_settings_folders_and_nothing_else(sharing, folders):
    def host_name(_):
        import socket

        return socket.gethostname()

    agent = sharing.agents[0]
    with held(host_name, [0], shares={"data": "/data"}):
        mounts = [
            {(it["Source"], it["Destination"], it["RW"]) for it in inspect(name)["Mounts"]}
            for name in docker(
                "ps", "--filter", f"label={agent.label}", "--format", "{{.Names}}"
            ).split()
        ]
        with_data = [found for found in mounts if (str(folders[0]), "/data", False) in found]
        assert len(with_data) == 1
        strangers = [found for found in mounts if len(found) > 3 and found not in with_data]
        assert not strangers
        assert len(with_data[0]) == 4


def test_what_there_is_not_is_said_before_anything_runs(sharing):
    with pytest.raises(muster.ShareError, match=r"`nfs`.*`data`, `out`.*--share") as caught:
        small_map(_seen(), ["/nfs"], shares={"data": "/data", "nfs": "/nfs"})
    assert (caught.value.code, caught.value.status) == ("no_such_share", 422)
    for shares in (
        {"data": "/proc/x"},
        {"data": "/"},
        {"data": "x"},
        {"data": "/a", "out": "/a/b"},
    ):
        with pytest.raises(muster.UsageError):
            small_map(_seen(), ["/"], shares=shares)
        # Nobody needs the SDK to ask.
        call = {"command": ["ls"], "ram": 0.25, "shares": shares}
        answer = curl(sharing, "/v1/calls", *as_json(call))
        assert (answer.status, answer.json["code"]) == (400, "bad_field")


def test_commands_have_shares_too(sharing):
    line = "/v1/run?ram=0.25&share=data:/d&cmd=ls%20/d"
    assert curl(sharing, line, "-X", "POST").body == b"table.csv\n"
    call = {"command": ["ls", "/d"], "ram": 0.25, "shares": {"data": "/d"}}
    events = curl(sharing, "/v1/calls", *as_json(call)).events
    assert "table.csv" in "".join(str(event) for event in events)


def test_a_call_runs_only_where_its_shares_are(own_service, folders):
    data, out = folders
    service = own_service()
    service.add_agent("--cpus", "0", "--ram", "2GiB", "--share", f"data={data}:ro")
    service.add_agent(
        "--cpus", "1", "--ram", "2GiB", "--share", f"data={data}", "--share", f"out={out}"
    )
    first, second = (agent.name for agent in service.agents)

    def where(_):
        return muster.current().host

    both = {"data": "/data", "out": "/out"}
    assert set(small_map(where, range(8), func_cpu=0.25, shares=both)) == {second}
    # One that needs no share, or one that both have, goes to both.
    with held(where, range(2), shares={"data": "/data"}) as hosts:
        assert set(hosts) == {first, second}
    listed = {
        host["host"]: [(it["name"], it["writable"], it["there"]) for it in host["shares"]]
        for host in service.api.hosts()
    }
    assert listed[first] == [("data", False, True)]
    assert listed[second] == [("data", False, True), ("out", False, True)]


def test_a_share_whose_folder_goes_is_absent_until_it_is_back(sharing, folders):
    data, _ = folders

    def there():
        shares = sharing.agents[0].status()["shares"]
        return next(share["there"] for share in shares if share["name"] == "data")

    aside = data.with_name("aside")
    data.rename(aside)
    until("the share is told as absent", lambda: not there(), 60)
    with pytest.raises(muster.ShareError, match=r"`data` is gone from host"):
        small_map(_seen(), ["/data"], shares={"data": "/data"})
    aside.rename(data)
    until("the share is back", there, 60)
    assert small_map(_seen(), ["/data"], shares={"data": "/data"}) == [["table.csv"]]


def test_a_folder_that_became_a_link_is_not_mounted(sharing, folders, tmp_path):
    data, _ = folders
    data.rename(tmp_path / "real")
    data.symlink_to("/etc")

    def there():
        return all(share["there"] for share in sharing.agents[0].status()["shares"])

    until("the share is told as absent", lambda: not there(), 60)
    with pytest.raises(muster.ShareError, match="gone"):
        small_map(_seen(), ["/data"], shares={"data": "/data"})


def test_children_have_the_shares_that_they_name(sharing):
    def parent(path):
        def child(path):
            return os.listdir(path)

        own = os.path.exists(path)
        return own, muster.remote_parallel_map(
            child, [path], func_ram=0.25, spinner=False, shares={"data": "/data"}
        )

    assert small_map(parent, ["/data"]) == [(False, [["table.csv"]])]


def test_a_limited_token_uses_its_own_shares_alone_and_so_do_its_children(sharing):
    limited = sharing.command("token", "create", "--share", "data")
    seen = _seen()

    def parent(name):
        try:
            muster.remote_parallel_map(
                len, ["x"], func_ram=0.25, spinner=False, shares={name: "/s"}
            )
        except muster.ShareError as error:
            return error.code
        return "allowed"

    assert small_map(seen, ["/s"], shares={"data": "/s"}, token=limited) == [["table.csv"]]
    with pytest.raises(muster.ShareError, match=r"may not use the share `out`") as caught:
        small_map(seen, ["/s"], shares={"out": "/s"}, token=limited)
    assert (caught.value.code, caught.value.status) == ("share_forbidden", 403)
    assert small_map(parent, ["data", "out"], token=limited) == ["allowed", "share_forbidden"]
    assert small_map(parent, ["data", "out"]) == ["allowed", "allowed"]


def test_a_limited_token_gives_no_inputs_to_a_call_with_other_shares(sharing):
    limited = sharing.command("token", "create", "--share", "data")
    call = {"command": ["ls", "/o"], "ram": 0.25, "shares": {"out": "/o"}, "more_inputs": True}
    call |= {"background": True, "inputs": []}
    made = curl(sharing, "/v1/calls", *as_json(call)).json
    lines = ("-H", "Content-Type: application/x-ndjson", "--data-binary", "[]\n")
    path = f"/v1/calls/{made['id']}/inputs"
    with contextlib.ExitStack() as stack:
        stack.callback(curl, sharing, f"/v1/calls/{made['id']}", "-X", "DELETE")
        refused = curl(sharing, path, *lines, token=limited)
        assert (refused.status, refused.json["code"]) == (403, "share_forbidden")
        assert curl(sharing, path, *lines).status == 200


def test_the_doctor_says_what_containers_can_do_with_each_share_and_what_to_change(
    service, folders, tmp_path
):
    assert service
    data, out = folders
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    flags = [f"data={data}", f"out={out}:rw", f"odd={data}:rw", f"closed={closed}", "gone=/nowhere"]
    command = [programs() / "muster-agent", "doctor", *(f"--share={flag}" for flag in flags)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    said = {what: remedy for what, remedy in zip(lines, lines[1:], strict=False) if "share" in what}

    def of(words):
        ((level, remedy),) = [
            (what.split(":")[0], remedy) for what, remedy in said.items() if words in what
        ]
        return level, remedy.strip()

    assert of(f"`data={data}:ro` is there")[0] == "note"
    assert of(f"`out={out}:rw` is there")[0] == "note"
    assert "chmod 1777" in of(f"`odd={data}:rw` cannot be written")[1]
    assert "chmod -R o+rX" in of(f"`closed={closed}:ro` cannot be read")[1]
    assert of("gone=/nowhere")[0] == "weak"


def test_an_agent_does_not_start_with_shares_that_would_give_the_host_away(tmp_path):
    def says(share):
        flags = ("--join", "http://127.0.0.1:1#muster_id_secret", "--runner-dir", runner_folder())
        command = [programs() / "muster-agent", *flags, "--print-config", "--share", share]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    for share, why in (
        ("data=/", "whole host"),
        ("data=/run", "docker.sock"),
        ("data=/proc", "/proc"),
        (f"data={tmp_path}/nowhere", "not a folder"),
        ("Data=/srv", "name"),
    ):
        said = says(share)
        assert said.returncode == 64, share
        assert "--share" in said.stderr
        assert why in said.stderr, said.stderr
    assert f"share = data={tmp_path.resolve()}:rw" in says(f"data={tmp_path}:rw").stdout
