"""The gateway's routes, and its problems as exceptions."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from . import _http
from ._config import Endpoint, inside
from ._errors import (
    ApiError,
    AuthError,
    CallExpired,
    CallNotFound,
    DataError,
    ImageError,
    NestedError,
    NoHosts,
    SecretError,
    ShareError,
    TransportError,
)
from ._http import Body, Buffer

FRAMES = "application/vnd.muster.frames"

_BY_CODE: dict[str, type[ApiError]] = {
    "unauthenticated": AuthError,
    "forbidden": AuthError,
    "no_hosts": NoHosts,
    "does_not_fit": NoHosts,
    "no_such_runtime": NoHosts,
    "no_such_image": ImageError,
    "no_image_for_python": ImageError,
    "python_mismatch": ImageError,
    "unknown_call": CallNotFound,
    "call_expired": CallExpired,
    "unknown_blob": DataError,
    "blob_too_large": DataError,
    "blobs_full": DataError,
    "no_room_for_data": DataError,
    "data_failed": DataError,
    "no_such_share": ShareError,
    "share_forbidden": ShareError,
    "unknown_secret": SecretError,
    "too_many_secrets": SecretError,
    "nested_too_deep": NestedError,
    "too_many_nested": NestedError,
}


def create(
    endpoint: Endpoint, key: str, body: Sequence[Buffer], seconds: float = _http.REQUEST_SECONDS
) -> Body:
    """Create a call; the answer is its stream of events (for a background call its record)."""
    headers = {"Content-Type": FRAMES, "Accept": FRAMES, "Idempotency-Key": key}
    if inside():
        # So that the call ends with this input.
        headers["Muster-Input"] = os.environ.get("MUSTER_INPUT_INDEX", "")
    return checked(_http.send(endpoint, "POST", "/v1/calls", body, headers, seconds))


def append(
    endpoint: Endpoint,
    call_id: str,
    body: Sequence[Buffer],
    connection: _http.Connection | None = None,
) -> Body:
    """Append inputs. A slow answer is the gateway's back-pressure, so there is no deadline but the connection's own."""
    path = f"/v1/calls/{call_id}/inputs"
    headers = {"Content-Type": FRAMES}
    return checked(_http.send(endpoint, "POST", path, body, headers, None, connection))


def events(endpoint: Endpoint, call_id: str, after: int) -> Body:
    """The events after `after`, live until the call's end."""
    path = f"/v1/calls/{call_id}/events?after={after}"
    return checked(_http.send(endpoint, "GET", path, (), {"Accept": FRAMES}))


def cancel(
    endpoint: Endpoint, call_id: str, seconds: float = _http.REQUEST_SECONDS
) -> dict[str, Any]:
    """Cancel a call; any number of times."""
    return _object(endpoint, "DELETE", f"/v1/calls/{call_id}", seconds)


def record(endpoint: Endpoint, call_id: str) -> dict[str, Any]:
    """The record of a call."""
    return _object(endpoint, "GET", f"/v1/calls/{call_id}")


def drain(endpoint: Endpoint, host: str, undo: bool) -> dict[str, Any]:
    """Drain a host, or undo that; any number of times."""
    method = "DELETE" if undo else "POST"
    return _object(endpoint, method, f"/v1/hosts/{quote(host, safe='')}/drain")


def function(endpoint: Endpoint, call_id: str) -> bytes:
    """The bytes of a call's FUNCTION."""
    return _whole(endpoint, "GET", f"/v1/calls/{call_id}/function")


def look_at_blob(endpoint: Endpoint, blob_id: str) -> tuple[bool, int]:
    """Whether a blob is whole, and if not, how many of its bytes are there."""
    answer = _http.send(endpoint, "HEAD", f"/v1/blobs/{blob_id}")
    answer.connection.release()
    if answer.status == 404:
        return False, int(answer.header("Muster-Offset") or 0)
    if answer.status >= 300:
        raise problem(answer.status, b"")
    return True, 0


def put_blob(
    endpoint: Endpoint, blob_id: str, first: int, total: int, body: Sequence[Buffer]
) -> int:
    """Send bytes of a blob, from `first` on; how many are there now."""
    end = first + sum(map(len, body))
    headers = {"Content-Range": f"bytes {first}-{end - 1}/{total}"}
    path = f"/v1/blobs/{blob_id}"
    answer = checked(_http.send(endpoint, "PUT", path, body, headers, _http.REQUEST_SECONDS))
    answer.connection.release()
    return int(answer.header("Muster-Offset") or end)


def read_blob(endpoint: Endpoint, blob_id: str) -> Body:
    """The bytes of a blob."""
    return checked(_http.send(endpoint, "GET", f"/v1/blobs/{blob_id}"))


def blob(endpoint: Endpoint, method: str, blob_id: str) -> None:
    """What has no answer but that it is done."""
    _whole(endpoint, method, f"/v1/blobs/{blob_id}")


def set_secret(endpoint: Endpoint, name: str, value: str) -> None:
    """Set a secret, or replace it."""
    body = json.dumps({"value": value}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    read_object(checked(_http.send(endpoint, "PUT", f"/v1/secrets/{name}", [body], headers)))


def delete_secret(endpoint: Endpoint, name: str) -> None:
    """Remove a secret."""
    _whole(endpoint, "DELETE", f"/v1/secrets/{name}")


def fetch_data(endpoint: Endpoint, blob_id: str, seconds: float) -> None:
    """Have the agent bring a blob into this container."""
    _whole(endpoint, "GET", f"/v1/data/{blob_id}", seconds)


def listing(endpoint: Endpoint, what: str) -> list[dict[str, Any]]:
    """`calls`, `hosts` or `secrets`."""
    answer = json.loads(_whole(endpoint, "GET", f"/v1/{what}"))
    items = answer.get(what, []) if isinstance(answer, dict) else answer
    return list(items)


def read_object(answer: Body) -> dict[str, Any]:
    """The JSON object that an answer holds; its connection is kept for the next request."""
    try:
        found = json.loads(answer.read_all(_http.REQUEST_SECONDS) or b"{}")
    except (OSError, ValueError) as error:
        answer.connection.close()
        raise TransportError(f"the gateway's answer broke off: {error}") from error
    answer.connection.release()
    return found if isinstance(found, dict) else {}


def checked(answer: Body) -> Body:
    """The answer, or the problem it carries as an exception."""
    if answer.status < 300:
        return answer
    try:
        content = answer.read_all(_http.REQUEST_SECONDS)
    except OSError:
        content = b""
        answer.connection.close()
    else:
        answer.connection.release()
    raise problem(answer.status, content, answer.call_id)


def problem(status: int, content: bytes, call_id: str | None = None) -> ApiError:
    """The exception for `application/problem+json`, or for whatever else answered."""
    try:
        said = json.loads(content)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        text = content[:200].decode("utf-8", "replace").strip()
        return ApiError(
            f"the gateway answered {status}: {text or 'nothing more'}", status=status, detail=text
        )
    code = str(said.get("code", ""))
    detail = str(said.get("detail") or said.get("title") or code)
    action = str(said.get("action") or "")
    kind = _BY_CODE.get(code) or (AuthError if status in (401, 403) else ApiError)
    message = f"{detail.rstrip('.')}. {action}" if action else detail
    return kind(message, code=code, status=status, detail=detail, action=action, call_id=call_id)


def _object(
    endpoint: Endpoint, method: str, path: str, seconds: float = _http.REQUEST_SECONDS
) -> dict[str, Any]:
    found = json.loads(_whole(endpoint, method, path, seconds) or b"{}")
    return found if isinstance(found, dict) else {}


def _whole(
    endpoint: Endpoint, method: str, path: str, seconds: float = _http.REQUEST_SECONDS
) -> bytes:
    answer, content = _http.fetch(
        endpoint, method, path, (), {"Accept": "application/json"}, seconds
    )
    if answer.status >= 300:
        raise problem(answer.status, content, answer.call_id)
    return content
