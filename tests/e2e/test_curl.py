"""The README's curl lines, run with the real curl: commands, Python source, events, calls and
hosts."""

import io
import json
import subprocess
import tarfile
import time

import pytest
from harness import until
from harness.curl import as_json, curl, started
from harness.docker import docker
from harness.service import RUN

SQUARES = {
    "source": "def square(x):\n    print('squaring', x)\n    return x * x\n",
    "entry": "square",
    "ram": 0.25,
}
ENDLESS = {
    "source": "import time\ndef run(x):\n    print('up', flush=True)\n    time.sleep(600)\n",
    "entry": "run",
    "ram": 0.25,
}
RUN_SMALL = "/v1/run?ram=0.25"


@pytest.mark.smoke
def test_one_command_gets_the_body_as_stdin_and_answers_with_its_stdout(service):
    answer = curl(service, f"{RUN_SMALL}&cmd=sort+-r", "--data-binary", "@-", data=b"a\nc\nb\n")
    assert (answer.status, answer.body) == (200, b"c\nb\na\n")


def test_the_readmes_upload_of_a_file_works_too(service):
    answer = curl(
        service, f"{RUN_SMALL}&arg=wc&arg=-c", "-X", "POST", "-T", "-", data=b"x" * 3_000_000
    )
    assert (answer.status, answer.body.strip()) == (200, b"3000000")


def test_arguments_are_taken_as_they_are_and_bytes_come_back_as_they_were(service):
    answer = curl(
        service, f"{RUN_SMALL}&arg=printf&arg=%25s%5Cn&arg=a%20%20b&arg=%24HOME", "-X", "POST"
    )
    assert answer.body == b"a  b\n$HOME\n"
    blob = bytes(range(256)) * 1000
    assert curl(service, f"{RUN_SMALL}&cmd=cat", "--data-binary", "@-", data=blob).body == blob


@pytest.mark.smoke
def test_the_exit_code_is_in_the_trailer_and_in_the_record(service):
    answer = curl(service, f"{RUN_SMALL}&cmd=echo+out;exit+7", "-X", "POST", "-H", "TE: trailers")
    assert (answer.status, answer.body) == (200, b"out\n")
    assert answer.headers["muster-exit-code"] == "7"
    record = curl(service, f"/v1/calls/{answer.headers['muster-call']}").json
    assert record["exit_code"] == 7
    assert record["kind"] == "command"

    fine = curl(service, f"{RUN_SMALL}&cmd=true", "-X", "POST", "-H", "TE: trailers")
    assert fine.headers["muster-exit-code"] == "0"
    assert curl(service, f"/v1/calls/{fine.headers['muster-call']}").json["exit_code"] == 0


def test_a_command_that_is_killed_says_so_in_a_trailer(service):
    killed = curl(service, f"{RUN_SMALL}&cmd=kill+-9+$$", "-X", "POST", "-H", "TE: trailers")
    assert "muster-error" in killed.headers or killed.headers["muster-exit-code"] == "137", killed
    late = curl(service, f"{RUN_SMALL}&timeout=1&cmd=sleep+600", "-X", "POST", "-H", "TE: trailers")
    assert late.headers["muster-error"] == "timeout"


def test_stdout_comes_as_it_is_produced(service, tmp_path):
    with started(
        service, f"{RUN_SMALL}&cmd=echo+first;sleep+600", "-X", "POST", cwd=tmp_path
    ) as running:
        running.wait_for(b"first\n")
    newest = curl(service, "/v1/calls").json["calls"][0]["id"]
    curl(service, f"/v1/calls/{newest}", "-X", "DELETE")


def test_stderr_comes_too_on_request(service):
    both = f"{RUN_SMALL}&cmd=echo+out;echo+err+>%262"
    assert curl(service, both.replace(">", "%3E"), "-X", "POST").body == b"out\n"
    merged = curl(service, both.replace(">", "%3E") + "&stderr=merge", "-X", "POST").body
    assert sorted(merged.splitlines()) == [b"err", b"out"]


def test_the_environment_can_be_given(service):
    assert (
        curl(service, f"{RUN_SMALL}&env=A=b%20c&cmd=echo+%22$A%22", "-X", "POST").body == b"b c\n"
    )


HELLO = """
#include <stdio.h>
#include <unistd.h>
int main(int count, char **arguments) {
    char data[4096];
    ssize_t n;
    printf("no shell, no libc, %d arguments\\n", count - 1);
    fflush(stdout);
    while ((n = read(0, data, sizeof data)) > 0) if (write(1, data, n) != n) return 1;
    return 5;
}
"""


@pytest.fixture
def bare_image(tmp_path):
    """An image with one static program in it and nothing else at all."""
    (tmp_path / "hello.c").write_text(HELLO)
    subprocess.run(
        ["cc", "-static", "-O1", "-o", tmp_path / "hello", tmp_path / "hello.c"],
        check=True,
        timeout=60,
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(tmp_path / "hello", "hello")
    name = f"muster-e2e-{RUN}:bare"
    docker("import", "-", name, data=packed.getvalue())
    yield name
    docker("image", "rm", name)


def test_any_language_and_any_image_an_image_needs_nothing_of_ours(bare_image, own_service):
    # An agent of its own, with nothing warm: at its end no container is left that holds the image.
    service = own_service()
    service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0", "--pull", "never")
    path = f"{RUN_SMALL}&image={bare_image}&arg=/hello&arg=1&arg=2"
    answer = curl(service, path, "--data-binary", "@-", "-H", "TE: trailers", data=b"echoed")
    assert answer.body == b"no shell, no libc, 2 arguments\nechoed"
    assert answer.headers["muster-exit-code"] == "5"


@pytest.mark.smoke
def test_python_source_with_json_inputs_streams_events_as_ndjson(service):
    answer = curl(service, "/v1/calls", *as_json({**SQUARES, "inputs": [1, 2, 3]}))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    events = answer.events
    outputs = {event["index"]: event["value"] for event in events if event["type"] == "output"}
    assert outputs == {0: 1, 1: 4, 2: 9}
    prints = [event for event in events if event["type"] == "stdout"]
    assert sorted((event["index"], event["text"]) for event in prints) == [
        (i, f"squaring {i + 1}\n") for i in range(3)
    ]
    logged = [event["seq"] for event in events if event["type"] != "progress"]
    assert logged == list(range(1, len(logged) + 1))
    assert events[0]["type"] == "state"
    assert events[0]["call"] == answer.headers["muster-call"]
    end = events[-1]
    assert {name: end[name] for name in ("type", "state", "done", "failed", "total", "error")} == {
        "type": "end", "state": "succeeded", "done": 3, "failed": 0, "total": 3, "error": None,
    }  # fmt: skip


def test_events_come_as_they_happen(service, tmp_path):
    with started(
        service, "/v1/calls", *as_json({**ENDLESS, "inputs": [1]}), cwd=tmp_path
    ) as running:
        running.wait_for(b'"text":"up\\n"')
    newest = curl(service, "/v1/calls").json["calls"][0]["id"]
    curl(service, f"/v1/calls/{newest}", "-X", "DELETE")


def test_an_exception_and_a_crash_are_outputs_with_what_is_known_of_them(service):
    source = "import os\ndef run(x):\n    if x == 1: os._exit(4)\n    return 1 // x\n"
    body = {"source": source, "entry": "run", "inputs": [0, 1, -1], "ram": 0.25}
    events = curl(service, "/v1/calls", *as_json(body)).events
    outputs = {event["index"]: event for event in events if event["type"] == "output"}
    exception = outputs[0]["exception"]
    assert (exception["type"], exception["message"]) == (
        "ZeroDivisionError",
        "integer division or modulo by zero",
    )
    assert "in run" in exception["traceback"]
    failure = outputs[1]["failure"]
    assert (failure["code"], failure["exit_code"]) == ("worker_died", 4)
    assert failure["message"]
    assert outputs[2]["value"] == -1
    assert (events[-1]["state"], events[-1]["failed"]) == ("failed", 2) or events[-1]["failed"] == 2


def test_on_error_stop_ends_the_call_at_the_first_failure(service):
    source = (
        "import time\ndef run(x):\n    if x == 0: raise ValueError('no')\n    time.sleep(600)\n"
    )
    body = {
        "source": source,
        "entry": "run",
        "inputs": [1, 0, 1, 1],
        "ram": 0.25,
        "on_error": "stop",
    }
    end = curl(service, "/v1/calls", *as_json(body)).events[-1]
    assert end["state"] == "failed"
    assert (end["error"]["code"], end["error"]["index"]) == ("input_failed", 1)


def _server_sent(body):
    """The events of a text/event-stream: [(id, data)]."""
    events = []
    for block in body.decode().split("\n\n"):
        fields = [
            line.partition(":")[::2]
            for line in block.splitlines()
            if line and not line.startswith(":")
        ]
        data = [value.lstrip() for name, value in fields if name == "data"]
        if data:
            number = [value.lstrip() for name, value in fields if name == "id"]
            events.append((int(number[0]) if number else None, json.loads("\n".join(data))))
    return events


def test_the_same_events_come_as_server_sent_events_and_resume_by_last_event_id(service):
    options = as_json({**SQUARES, "inputs": [5, 6]})
    answer = curl(service, "/v1/calls", *options, "-H", "Accept: text/event-stream")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = _server_sent(answer.body)
    assert {event["index"]: event["value"] for _, event in events if event["type"] == "output"} == {
        0: 25,
        1: 36,
    }
    logged = [(number, event) for number, event in events if event["type"] != "progress"]
    assert (
        [number for number, _ in logged]
        == [event["seq"] for _, event in logged]
        == list(range(1, len(logged) + 1))
    )

    path = f"/v1/calls/{answer.headers['muster-call']}/events"
    resumed = curl(service, path, "-H", "Accept: text/event-stream", "-H", "Last-Event-ID: 3")
    assert [pair for pair in _server_sent(resumed.body) if pair[1]["type"] != "progress"] == logged[
        3:
    ]


def test_a_running_call_can_be_followed_from_any_seq_by_any_number_of_readers(service, tmp_path):
    call = curl(
        service,
        "/v1/calls",
        *as_json({**SQUARES, "inputs": [1], "more_inputs": True, "background": True}),
    )
    assert call.status == 201
    path = f"/v1/calls/{call.json['id']}"
    with started(service, f"{path}/events", cwd=tmp_path) as whole:
        whole.wait_for(b'"value":1')
        with started(service, f"{path}/events?after=2", cwd=tmp_path) as late:
            late.wait_for(b'"value":1')
            more = curl(
                service, f"{path}/inputs?last=true",
                "-H", "Content-Type: application/x-ndjson", "--data-binary", "@-",
                data=b"2\n3\n",
            )  # fmt: skip
            assert (more.status, more.json) == (200, {"inputs": 3})
            assert whole.end() == late.end() == 0
    everything = [
        event for event in map(json.loads, whole.stdout.splitlines()) if event["type"] != "progress"
    ]
    assert [event["seq"] for event in everything] == list(range(1, len(everything) + 1))
    assert {event["value"] for event in everything if event["type"] == "output"} == {1, 4, 9}
    after = [
        event for event in map(json.loads, late.stdout.splitlines()) if event["type"] != "progress"
    ]
    assert after == everything[2:]
    # And the same again after the end.
    again = curl(service, f"{path}/events?after=4").events
    assert [event for event in again if event["type"] != "progress"] == everything[4:]


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        ([["a b", "c"], ["d"]], {0: "got a b c\n", 1: "got d\n"}),
        (["first", "second\n"], {0: "got\nfirst", 1: "got\nsecond\n"}),
        ([{"args": ["x"], "stdin": "both"}], {0: "got x\nboth"}),
    ],
    ids=["arguments", "stdin", "both"],
)
def test_a_command_over_many_inputs_each_an_argument_vector_or_a_stdin(service, inputs, wanted):
    command = ["sh", "-c", 'echo got "$@"; cat', "sh"]
    events = curl(
        service, "/v1/calls", *as_json({"command": command, "inputs": inputs, "ram": 0.25})
    ).events
    texts = {}
    for event in events:
        if event["type"] == "stdout":
            texts[event["index"]] = texts.get(event["index"], "") + event["text"]
    assert texts == wanted
    assert [event["value"] for event in events if event["type"] == "output"] == [
        {"exit_code": 0}
    ] * len(inputs)


def test_a_command_of_many_inputs_that_fails_says_its_exit_code(service):
    body = {"command": ["sh", "-c", 'exit "$1"', "sh"], "inputs": [["0"], ["3"]], "ram": 0.25}
    outputs = [
        event
        for event in curl(service, "/v1/calls", *as_json(body)).events
        if event["type"] == "output"
    ]
    assert {event["index"]: event.get("exception", {}).get("exit_code") for event in outputs} == {
        0: None,
        1: 3,
    }


def test_calls_and_hosts_are_listed(service):
    name = f"listed {time.monotonic()}"
    call = curl(service, "/v1/calls", *as_json({**SQUARES, "inputs": [1], "name": name})).headers[
        "muster-call"
    ]
    listed = curl(service, "/v1/calls").json["calls"]
    record = next(record for record in listed if record["id"] == call)
    assert record == curl(service, f"/v1/calls/{call}").json
    assert (record["name"], record["state"], record["done"], record["total"], record["kind"]) == (
        name, "succeeded", 1, 1, "source",
    )  # fmt: skip
    (host,) = curl(service, "/v1/hosts").json["hosts"]
    assert (host["host"], host["cores"]) == (service.agents[0].name, 2)
    assert any(image["name"].startswith("muster/python:") for image in host["images"])


@pytest.mark.smoke
def test_a_call_is_cancelled_any_number_of_times(service):
    call = curl(
        service, "/v1/calls", *as_json({**ENDLESS, "inputs": [1, 2], "background": True})
    ).json["id"]
    path = f"/v1/calls/{call}"
    until("it runs", lambda: service.agents[0].busy() == 2)
    for _ in range(2):
        answer = curl(service, path, "-X", "DELETE")
        assert (answer.status, answer.json["id"]) == (202, call)
    until("it is cancelled", lambda: curl(service, path).json["state"] == "cancelled", 10)
    until("its containers are gone", lambda: service.agents[0].busy() == 0, 10)
    assert curl(service, f"{path}/events").events[-1]["state"] == "cancelled"


def test_an_idempotency_key_makes_one_call_of_two_requests(service):
    options = [
        *as_json({**SQUARES, "inputs": [3]}),
        "-H",
        f"Idempotency-Key: key-{time.monotonic_ns()}",
    ]
    first, second = curl(service, "/v1/calls", *options), curl(service, "/v1/calls", *options)
    assert first.headers["muster-call"] == second.headers["muster-call"]
    assert [e for e in first.events if e["type"] != "progress"] == [
        e for e in second.events if e["type"] != "progress"
    ]


def test_health_needs_no_token_and_everything_else_does(service):
    health = ("/healthz", "/readyz")
    for path in health:
        assert curl(service, path, token="").status == 200
    described = curl(service, "/openapi.json").json
    for path, routes in described["paths"].items():
        for method in routes:
            if path in health or method not in (
                "get",
                "post",
                "put",
                "delete",
                "patch",
            ):
                continue
            concrete = path.replace("{id}", "unknown")
            answer = curl(service, concrete, "-X", method.upper(), token="")
            assert answer.status == 401, (method, path, answer)
            assert answer.headers["content-type"] == "application/problem+json"
    assert curl(service, "/metrics").status == 200
