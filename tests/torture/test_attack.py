"""Public tools against the built gateway. `scripts/setup.sh attack` installs them."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from crowd import Watch
from harness.open_files import allow_many_files

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
SCHEMATHESIS = ROOT / "build" / "tools" / "schemathesis" / "bin" / "schemathesis"
SECONDS = int(os.environ.get("MUSTER_ATTACK_SECONDS") or 60)
MIB = 1 << 20

# What the schema cannot say, so that a request may follow it and still be refused: that a call has a
# command or a source, that a blob's name is the hash of its bytes, what the name of an image is.
TOO_STRICT = "positive_data_acceptance"
# Replaced by a check of ours that lets 503 pass where it says when to try again.
REPLACED = "not_a_server_error"


@pytest.fixture
def service(own_service):
    allow_many_files()
    return own_service()


def run(*command, **options):
    """Runs a tool to its end; what it printed, however it ended."""
    arguments = [str(argument) for argument in command]
    return subprocess.run(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS + 60,
        **options,
    )


@pytest.mark.deadline(SECONDS + 90)
def test_schemathesis_finds_nothing(service, seed, tmp_path):
    hooks = Path(__file__).with_name("schemathesis_hooks.py")
    with Watch(service, 256 * MIB):
        done = run(
            SCHEMATHESIS, "run", f"{service.url}/openapi.json",
            "--header", f"Authorization: Bearer {service.token}",
            "--checks", "all", "--exclude-checks", f"{TOO_STRICT},{REPLACED}",
            # A tunnel; and what takes away the token that the tool itself uses.
            "--exclude-path", "/v1/hosts/connect", "--exclude-operation-id", "revokeToken",
            "--max-time", SECONDS, "--seed", seed, "--request-timeout", 10,
            "--continue-on-failure", "--output-truncate", "false",
            cwd=tmp_path, env={**os.environ, "SCHEMATHESIS_HOOKS": str(hooks)},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout


ATTACKS = {
    "slow headers": ("-H", "-i", "5", "-x", "24"),
    "slow body": ("-B", "-i", "5", "-s", "65536", "-x", "10", "-f", "application/json"),
    "slow read": ("-X", "-w", "1", "-y", "16", "-n", "5", "-z", "8", "-k", "3"),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.deadline(SECONDS + 90)
def test_slowhttptest_takes_the_service_from_nobody(service, attack, tmp_path):
    path = {"slow body": "/v1/calls", "slow read": "/openapi.json"}.get(attack, "/healthz")
    # The tool knows no header but the cookie; the token travels behind it.
    cookie = f"a=b\r\nAuthorization: Bearer {service.token}"
    with Watch(service, 256 * MIB):
        done = run(
            "slowhttptest", *ATTACKS[attack], "-u", service.url + path, "-j", cookie,
            "-c", 1000, "-r", 500, "-l", SECONDS, "-p", 1,
            cwd=tmp_path,
        )  # fmt: skip
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    available = re.findall(r"service available:\s*(\w+)", said)
    assert available, said
    assert set(available) == {"YES"}, said


@pytest.mark.deadline(SECONDS + 90)
def test_h2load_gets_an_answer_to_every_request(service):
    with Watch(service, 256 * MIB):
        done = run(
            "h2load", "--duration", SECONDS, "--warm-up-time", 1, "-c", 50, "-m", 100,
            "-H", f"authorization: Bearer {service.token}", f"{service.url}/v1/hosts",
        )  # fmt: skip
    print(
        "  h2load:", *re.findall(r"finished in .*|time for request: .*", done.stdout), sep="\n    "
    )
    refused = re.search(r"(\d+) 4xx, (\d+) 5xx", done.stdout)
    assert refused, done.stdout
    assert refused.groups() == ("0", "0"), done.stdout
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
    assert failed.groups() == ("0", "0", "0"), done.stdout


@pytest.mark.deadline(SECONDS + 90)
def test_wrk_gets_an_answer_to_every_request(service):
    with Watch(service, 256 * MIB):
        done = run(
            "wrk", "-t", 2, "-c", 400, "-d", SECONDS, "--timeout", "10s", "--latency",
            "-H", f"Authorization: Bearer {service.token}", f"{service.url}/v1/hosts",
        )  # fmt: skip
    print("  wrk:", *re.findall(r"Requests/sec.*|\d+%.*", done.stdout))
    assert "Requests/sec" in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
