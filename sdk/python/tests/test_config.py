"""Where the gateway is: arguments, environment, configuration file, this machine's own service."""

from __future__ import annotations

import json
import socket

import pytest

import muster
from muster._config import Endpoint, resolve


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch, tmp_path):
    for name in (
        "MUSTER_URL",
        "MUSTER_TOKEN",
        "MUSTER_CONFIG",
        "MUSTER_STATE_DIR",
        "XDG_CONFIG_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def put(path, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))


def test_each_place_wins_over_the_next(monkeypatch, tmp_path):
    put(tmp_path / ".local/state/muster/service.json", url="http://service:1", token="t1")
    assert resolve() == Endpoint("http://service:1", "t1")
    put(tmp_path / ".config/muster/config.json", url="http://config:2/", token="t2")
    assert resolve() == Endpoint("http://config:2", "t2")
    put(tmp_path / "named.json", url="http://named:3", token="t3")
    monkeypatch.setenv("MUSTER_CONFIG", str(tmp_path / "named.json"))
    assert resolve() == Endpoint("http://named:3", "t3")
    monkeypatch.setenv("MUSTER_URL", "http://environment:4")
    monkeypatch.setenv("MUSTER_TOKEN", "t4")
    assert resolve() == Endpoint("http://environment:4", "t4")
    assert resolve("http://argument:5", "t5") == Endpoint("http://argument:5", "t5")


def test_the_service_is_found_in_its_state_folder(monkeypatch, tmp_path):
    put(tmp_path / "state" / "service.json", url="http://service:1", token="t1")
    monkeypatch.setenv("MUSTER_STATE_DIR", str(tmp_path / "state"))
    assert resolve() == Endpoint("http://service:1", "t1")


def test_a_token_of_a_file_goes_only_to_the_address_in_that_file(tmp_path):
    put(tmp_path / ".local/state/muster/service.json", url="http://service:1", token="secret")
    assert resolve("http://service:1/") == Endpoint("http://service:1", "secret")
    assert resolve("http://elsewhere:1") == Endpoint("http://elsewhere:1", None)


def test_nothing_known_says_what_to_do():
    with pytest.raises(muster.UsageError, match="MUSTER_URL.*make demo"):
        muster.remote_parallel_map(abs, [1])


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / ".config/muster/config.json"
    put(path)
    path.write_text("{")
    with pytest.raises(muster.UsageError, match="config.json is not JSON"):
        resolve()
    path.write_text("[]")
    with pytest.raises(muster.UsageError, match="must hold an object"):
        resolve()


def test_an_address_needs_its_scheme():
    with pytest.raises(ValueError, match="http://"):
        resolve("gateway:8080", "t")


def test_no_gateway_there_says_what_to_do():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    for inputs in ([1], iter([1])):
        with pytest.raises(
            muster.TransportError, match=f"no gateway at http://127.0.0.1:{port}.*make demo"
        ):
            muster.remote_parallel_map(abs, inputs, url=f"http://127.0.0.1:{port}", token="t")


def test_code_outside_a_call_is_told_so():
    with pytest.raises(muster.NotInCall, match="outside of a call") as caught:
        muster.current()
    assert isinstance(caught.value, RuntimeError)
