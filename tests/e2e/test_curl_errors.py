"""Every listed error of the HTTP front: problem+json with a stable code, what is wrong, and what to
do."""

import json
from pathlib import Path

import pytest
from harness.curl import as_json, curl

GOOD = {"source": "def run(x): return x", "entry": "run", "inputs": [1], "ram": 0.25}
ERRORS = Path(__file__).resolve().parents[2] / "docs" / "errors.md"


def assert_problem(answer, status, *words):
    """The answer is a problem of this status that says these words, and its code has a paragraph in
    the documents."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert {"type", "code", "title", "status", "detail", "action"} <= set(problem)
    assert problem["status"] == status
    assert problem["type"].endswith(f"#{problem['code']}")
    assert problem["detail"]
    assert problem["action"]
    text = problem["detail"] + problem["action"]
    assert all(word in text for word in words), problem
    assert problem["code"] in ERRORS.read_text(), f"{problem['code']} is not in docs/errors.md"
    return problem["code"]


@pytest.mark.parametrize(
    "body", [b"{", b"", b"[1]", b'"text"', b'{"source": "x" "y"}', b"\xff\xfe"], ids=repr
)
def test_broken_json_is_refused(service, body):
    options = ["-H", "Content-Type: application/json", "--data-binary", "@-"]
    assert_problem(curl(service, "/v1/calls", *options, data=body), 400)


def test_an_unknown_field_is_named(service):
    assert_problem(curl(service, "/v1/calls", *as_json({**GOOD, "colour": "red"})), 400, "colour")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu", "two"),
        ("cpu", -1),
        ("cpu", 0),
        ("ram", [4]),
        ("inputs", 7),
        ("source", 1),
        ("entry", 5),
        ("env", ["A"]),
        ("env", {"A": 1}),
        ("timeout", "soon"),
        ("retries", -1),
        ("retries", 1.5),
        ("max_parallelism", 0),
        ("background", "yes"),
        ("on_error", "panic"),
        ("image", 3),
        ("kind", "magic"),
    ],
)
def test_a_wrong_type_or_value_names_the_field(service, field, value):
    assert_problem(curl(service, "/v1/calls", *as_json({**GOOD, field: value})), 400, field)


def test_a_call_with_nothing_to_run_or_two_things_is_refused(service):
    assert_problem(curl(service, "/v1/calls", *as_json({"inputs": [1]})), 400)
    assert_problem(curl(service, "/v1/calls", *as_json({**GOOD, "command": ["true"]})), 400)
    assert_problem(curl(service, "/v1/run", "-X", "POST"), 400)


def test_a_body_that_is_too_large_is_refused(service):
    body = json.dumps({**GOOD, "inputs": ["x" * (9 << 20)]}).encode()
    options = ["-H", "Content-Type: application/json", "--data-binary", "@-"]
    assert_problem(curl(service, "/v1/calls", *options, data=body), 413)


def test_an_unknown_call_is_not_found(service):
    for path in (
        "/v1/calls/nosuchcall",
        "/v1/calls/nosuchcall/events",
        "/v1/calls/nosuchcall/function",
    ):
        assert_problem(curl(service, path), 404, "nosuchcall")
    assert_problem(curl(service, "/v1/calls/nosuchcall", "-X", "DELETE"), 404, "nosuchcall")


@pytest.mark.parametrize(
    "token", ["", "nonsense", "muster_0000_1111"], ids=["missing", "malformed", "wrong"]
)
def test_a_missing_or_wrong_token_is_refused_saying_nothing_of_what_exists(service, token):
    code = assert_problem(curl(service, "/v1/calls", token=token), 401)
    assert assert_problem(curl(service, "/v1/calls/nosuchcall", token=token), 401) == code
    assert_problem(curl(service, "/v1/calls", *as_json(GOOD), token=token), 401)


def test_the_join_token_is_not_a_clients(service):
    join = service.command("join-string", "create").partition("#")[2]
    assert_problem(curl(service, "/v1/calls", token=join), 403)


@pytest.mark.parametrize("limits", [{"cpu": 1000}, {"ram": 5000}], ids=str)
def test_no_room_names_the_largest_host(service, limits):
    answer = curl(service, "/v1/calls", *as_json({**GOOD, **limits}))
    assert answer.status // 100 in (4, 5)
    assert_problem(answer, answer.status, service.agents[0].name)


def test_no_such_image_names_those_there(own_service):
    service = own_service()
    service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0", "--pull", "never")
    body = as_json({**GOOD, "image": "no-such-image-anywhere:1"})
    assert_problem(
        curl(service, "/v1/calls", *body), 422, "no-such-image-anywhere:1", "muster/python:"
    )


def test_an_image_that_cannot_be_pulled_ends_the_call_naming_those_there(service):
    """Hosts that may pull have to try, so the call is admitted first."""
    answer = curl(service, "/v1/calls", *as_json({**GOOD, "image": "127.0.0.1:1/nothing:1"}))
    end = answer.events[-1]
    assert (end["state"], end["error"]["code"]) == ("failed", "no_such_image")
    assert "127.0.0.1:1/nothing:1" in end["error"]["message"]
    assert "muster/python:" in end["error"]["action"]


def test_an_unknown_route_and_a_wrong_method_are_problems_too(service):
    assert_problem(curl(service, "/v1/nowhere"), 404)
    assert_problem(curl(service, "/v1/hosts", "-X", "DELETE"), 405)


def test_a_wrong_content_type_is_refused(service):
    options = ["-H", "Content-Type: text/csv", "-d", "a,b"]
    assert_problem(curl(service, "/v1/calls", *options), 415)


def test_inputs_that_come_after_the_end_are_refused(service):
    call = curl(service, "/v1/calls", *as_json({**GOOD, "background": True})).json["id"]
    options = ["-H", "Content-Type: application/x-ndjson", "--data-binary", "@-"]
    late = curl(service, f"/v1/calls/{call}/inputs", *options, data=b"1\n")
    assert_problem(late, 409)
