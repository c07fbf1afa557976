"""The front door as other machines find it: nobody on loopback is counted."""

import contextlib
import http.client
import json
import socket
from urllib.parse import urlsplit

from harness import until
from harness.addresses import addresses_of_this_host
from harness.open_files import allow_many_files

# What one address may have at once.
CONNECTIONS = 1000


def test_one_address_has_a_thousand_connections_and_is_told_when_to_try_again(own_service):
    allow_many_files()
    service = own_service("--insecure-listen", listen="0.0.0.0:0")
    port = urlsplit(service.url).port
    there = addresses_of_this_host()[0], port

    def ask(address=there):
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=10)) as connection:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    assert ask()[0] == 200
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection(there, 10))
        status, headers, body = ask()
        assert (status, headers["Retry-After"], headers["Connection"]) == (429, "1", "close")
        assert json.loads(body)["code"] == "too_many_connections"
        # Others are not the worse for it.
        assert ask(("127.0.0.1", port))[0] == 200
    until("there is room again", lambda: ask()[0] == 200)
