"""The real `curl`, as the README shows it."""

import json
import subprocess
from typing import NamedTuple

from .script import Script


class Answer(NamedTuple):
    """What `curl` got. `headers` has the trailers too; names are in lower case."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def events(self):
        """The body's lines of NDJSON."""
        return [json.loads(line) for line in self.body.splitlines()]


def arguments(service, path, *options, token=None):
    """The command line: quiet but for errors, unbuffered, with the service's token."""
    token = service.token if token is None else token
    authorization = ["-H", f"Authorization: Bearer {token}"] if token else []
    if service.authority:
        authorization += ["--cacert", str(service.authority)]
    return ["curl", "-sSN", *authorization, *options, f"{service.url}{path}"]


def curl(service, path, *options, data=None, token=None, seconds=40):
    """Runs curl to its end. `data` is its standard input: give `--data-binary @-` or `-T -` to send
    it."""
    command = arguments(
        service,
        path,
        "-D",
        "/dev/stderr",
        "-w",
        "%{stderr}\nstatus=%{http_code}",
        *options,
        token=token,
    )
    done = subprocess.run(command, input=data, capture_output=True, timeout=seconds, check=False)
    head = done.stderr.decode()
    assert done.returncode == 0, (command, done.returncode, head)
    head, _, status = head.rpartition("\nstatus=")
    lines = [line.partition(":") for line in head.splitlines()]
    headers = {name.strip().lower(): value.strip() for name, colon, value in lines if colon}
    return Answer(int(status), headers, done.stdout)


def started(service, path, *options, cwd, data=None):
    """Starts curl and leaves it running: what it prints can be waited for."""
    return Script(arguments(service, path, *options), cwd=cwd, stdin=data)


def as_json(value):
    """Options that send `value` as JSON."""
    return ["-H", "Content-Type: application/json", "-d", json.dumps(value)]
