"""What schemathesis is to know of this gateway; loaded by it (`SCHEMATHESIS_HOOKS`), not by the tests."""

import json

import schemathesis

NDJSON = "application/x-ndjson"
FRAMES = "application/vnd.muster.frames"


@schemathesis.check
def server_errors_say_when_to_try_again(_ctx, response, _case):
    """The only server error is 503. Where waiting helps it says how long; without a host nobody
    knows."""
    if response.status_code < 500:
        return
    assert response.status_code == 503, response.status_code
    told = "retry-after" in response.headers
    assert told or response.json()["code"] == "no_hosts", response.text


@schemathesis.serializer(NDJSON)
def write_ndjson(_ctx, value):
    """One line for each input."""
    lines = value if isinstance(value, list) else [value]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@schemathesis.serializer(FRAMES)
def write_frames(_ctx, value):
    """Bytes as they are: schemathesis knows no frames, so most of them are garbage."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.deserializer(NDJSON)
def read_ndjson(_ctx, response):
    """The first event: the schema is that of one."""
    return json.loads(response.content.split(b"\n", 1)[0])
