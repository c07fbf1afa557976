"""A gateway that speaks TLS: the SDK, curl and agents find it trustworthy by what they were handed."""

import muster
import pytest
from harness import small_map
from harness.curl import curl


@pytest.fixture
def secret_service(own_service):
    service = own_service("--tls")
    service.add_agent("--cpus", "0", "--ram", "1GiB", "--warm", "0")
    return service


def test_a_call_runs_over_tls_and_another_gateways_token_finds_out(secret_service):
    assert secret_service.url.startswith("https://127.0.0.1:")
    assert small_map(lambda x: x * x, range(5)) == [0, 1, 4, 9, 16]
    assert curl(secret_service, "/v1/hosts").json["hosts"]
    # A token with another gateway's pin is never sent to this one.
    token = secret_service.token
    other = token[:-64] + "0" * 64
    with pytest.raises(muster.TransportError, match="is not the gateway this token is for"):
        muster.hosts(url=secret_service.url, token=other)
    # Nor is one without a pin: no authority of this machine has signed for the gateway.
    with pytest.raises(muster.TransportError, match="cannot be trusted"):
        muster.hosts(url=secret_service.url, token=token[:-65])


def test_an_upload_and_many_events_go_over_tls_whole(secret_service):
    assert secret_service.agents
    blobs = [bytes([n]) * (3 << 20) for n in range(6)]
    assert small_map(lambda blob: blob, blobs) == blobs
    assert small_map(lambda x: x, range(20_000)) == list(range(20_000))
