"""What is wrong before anything runs is said at once, with what to do about it."""

import json
import math
import struct
import sys
import threading

import muster
import pytest
from harness import small_map
from harness.ports import closed_url

OTHER_PYTHON = "3.13" if sys.version_info[:2] != (3, 13) else "3.11"


def test_no_gateway_at_this_address_names_it_and_says_what_to_do(monkeypatch):
    url = closed_url()
    monkeypatch.setenv("MUSTER_URL", url)
    monkeypatch.setenv("MUSTER_TOKEN", "muster_a_b")
    with pytest.raises(muster.TransportError) as caught:
        muster.remote_parallel_map(abs, [1], spinner=False)
    assert url.removeprefix("http://") in str(caught.value)
    assert "MUSTER_URL" in str(caught.value) or "make" in str(caught.value)


def test_no_service_known_at_all_says_what_to_do(monkeypatch, tmp_path):
    for name in (
        "MUSTER_URL",
        "MUSTER_TOKEN",
        "MUSTER_STATE_DIR",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(muster.MusterError, match="MUSTER_URL"):
        muster.remote_parallel_map(abs, [1], spinner=False)


def test_a_wrong_token_is_refused(service, monkeypatch):
    monkeypatch.setenv("MUSTER_TOKEN", "muster_wrong_token")
    with pytest.raises(muster.AuthError, match="token"):
        small_map(abs, [1])


def test_no_hosts_says_so_and_what_to_do(own_service):
    own_service()
    with pytest.raises(muster.NoHosts) as caught:
        small_map(abs, [1])
    assert "host" in str(caught.value)
    assert "agent" in str(caught.value), "what to do: start one"


@pytest.mark.smoke
@pytest.mark.parametrize("too_much", [{"func_cpu": 1000}, {"func_ram": 5000}], ids=str)
def test_more_cores_or_memory_than_any_host_has_names_the_largest(service, too_much):
    with pytest.raises(muster.ApiError) as caught:
        small_map(abs, [1], **too_much)
    text = str(caught.value)
    assert service.agents[0].name in text
    assert ("2" if "func_cpu" in too_much else "6") in text
    assert str(next(iter(too_much.values()))) in text


def test_an_unknown_image_is_refused_naming_those_there(own_service):
    service = own_service()
    service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0", "--pull", "never")
    with pytest.raises(muster.ImageError) as caught:
        small_map(abs, [1], image="no-such-image-anywhere:1")
    _assert_names_images(caught.value, "no-such-image-anywhere:1")


def test_an_image_that_cannot_be_pulled_ends_the_call_naming_those_there(service):
    """Where hosts may pull, the call is admitted, and ends at once when they cannot."""
    with pytest.raises(muster.CallFailed) as caught:
        small_map(abs, [1], image="127.0.0.1:1/nothing:1")
    assert caught.value.code == "no_such_image"
    _assert_names_images(caught.value, "127.0.0.1:1/nothing:1")


def _assert_names_images(error, wanted):
    text = str(error)
    assert wanted in text
    assert f"muster/python:{sys.version_info[0]}.{sys.version_info[1]}" in text


def test_an_image_with_another_python_is_refused_naming_both_and_those_that_fit(service):
    with pytest.raises(muster.ImageError) as caught:
        small_map(abs, [1], image=f"muster/python:{OTHER_PYTHON}")
    text = str(caught.value)
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert OTHER_PYTHON in text
    assert own in text
    assert f"muster/python:{own}" in text


def test_a_python_minor_version_without_an_image_names_those_that_have_one(service):
    """What a client on Python 3.7 would send."""
    spec = json.dumps({"kind": "pickle", "python": "3.7", "ram": 0.25}).encode()
    frames = b"".join(
        struct.pack("<IB11x", len(body), kind) + body
        for kind, body in ((1, spec), (2, b"\2\0\0\0{}"), (4, struct.pack("<Q", 0)))
    )
    status, headers, body = service.api.request(
        "POST", "/v1/calls", frames, {"Content-Type": "application/vnd.muster.frames"}
    )
    problem = json.loads(body)
    assert (status // 100, headers["Content-Type"]) == (4, "application/problem+json"), problem
    text = problem["detail"] + problem["action"]
    assert "3.7" in text
    assert "muster/python:3." in text


@pytest.mark.parametrize("name", ["func_cpu", "func_ram"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf], ids=str)
def test_a_limit_that_is_not_positive_and_finite_is_refused(monkeypatch, name, value):
    monkeypatch.setenv("MUSTER_URL", closed_url())
    with pytest.raises(ValueError, match=name):
        muster.remote_parallel_map(abs, [1], spinner=False, **{name: value})


@pytest.mark.parametrize("name", ["func_cpu", "func_ram", "max_parallelism"])
@pytest.mark.parametrize("value", ["1", [2], True], ids=repr)
def test_a_limit_that_is_not_a_number_is_refused(monkeypatch, name, value):
    monkeypatch.setenv("MUSTER_URL", closed_url())
    with pytest.raises(TypeError, match=name):
        muster.remote_parallel_map(abs, [1], spinner=False, **{name: value})


@pytest.mark.parametrize("value", [0, -3])
def test_a_max_parallelism_below_one_is_refused(monkeypatch, value):
    monkeypatch.setenv("MUSTER_URL", closed_url())
    with pytest.raises(ValueError, match="max_parallelism"):
        muster.remote_parallel_map(abs, [1], spinner=False, max_parallelism=value)


def test_a_function_that_cannot_be_pickled_names_what_stops_it(service):
    guard = threading.Lock()

    def locked(x):
        with guard:
            return x

    with pytest.raises(muster.PicklingError, match="guard") as caught:
        small_map(locked, [1])
    assert "lock" in str(caught.value)


def test_an_input_that_cannot_be_pickled_names_the_object_and_the_index(service):
    inputs = [{"fine": 1}, {"fine": 2}, {"fine": 3, "bad": [threading.Lock()]}]
    with pytest.raises(muster.PicklingError) as caught:
        small_map(len, inputs)
    text = str(caught.value)
    assert caught.value.index == 2
    assert "2" in text
    assert "bad" in text
    assert "lock" in text


def test_an_unknown_keyword_is_refused_as_python_does():
    with pytest.raises(TypeError, match="func_gpu"):
        muster.remote_parallel_map(abs, [1], func_gpu=1)
