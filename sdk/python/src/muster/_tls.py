"""TLS to a gateway: verified by the pin in the token, or by the authorities this machine trusts.

A gateway makes its own certificate authority, and the token it hands out ends in that authority's pin: the SHA-256 of
its certificate. So nothing has to be installed. The certificate itself is asked for once per process, from whoever
answers at the gateway's address, before anything secret is sent, and counts only if its hash is the pin; every
connection is then verified against it alone, with the name or address it was made to. A token without a pin is for a
gateway whose certificate a public authority signed.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
from contextlib import closing

from ._errors import TransportError

_SECONDS = 10.0
_MAX_CA_BYTES = 64 * 1024

# By pin; None: the authorities of this machine. Contexts may be shared by threads, and made twice without harm.
_contexts: dict[str | None, ssl.SSLContext] = {}


def wrap(sock: socket.socket, host: str, port: int, prefix: str, pin: str | None) -> ssl.SSLSocket:
    """The same connection, secret, its other end verified."""
    context = _contexts.get(pin)
    if context is None:
        context = ssl.create_default_context() if pin is None else _pinned(host, port, prefix, pin)
        context.set_alpn_protocols(["http/1.1"])
        _contexts[pin] = context
    return context.wrap_socket(sock, server_hostname=host)


def _pinned(host: str, port: int, prefix: str, pin: str) -> ssl.SSLContext:
    """Trusts the authority with this pin, and no other."""
    pem = _told(host, port, prefix)
    try:
        found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    except ValueError:
        found = "no certificate"
    if found != pin.lower():
        raise TransportError(
            f"what answers at {host}:{port} is not the gateway this token is for: its authority is "
            f"{found[:16]}..., the token's pin {pin[:16]}.... Check MUSTER_URL, and that the token is this gateway's"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=pem)
    return context


def _told(host: str, port: int, prefix: str) -> str:
    """The authority's certificate, as whoever is there tells it. Nothing secret is sent, and nothing is believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
    with closing(connection):
        connection.request("GET", f"{prefix}/v1/ca.pem", headers={"Connection": "close"})
        answer = connection.getresponse()
        text = answer.read(_MAX_CA_BYTES).decode("ascii", "replace")
    return text.strip() if answer.status == 200 else ""
