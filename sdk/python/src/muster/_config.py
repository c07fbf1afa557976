"""Where the gateway is, and the token for it.

The first that says so wins: arguments, `MUSTER_URL` and `MUSTER_TOKEN`, the configuration file (`MUSTER_CONFIG`, or
`~/.config/muster/config.json`), then this machine's own service (`service.json` in `MUSTER_STATE_DIR`, or in
`~/.local/state/muster`). Both files hold `{"url": ..., "token": ...}`. A token from a file is only ever sent to
the address in the same file. A token may end in a pin (`_tls`), which is never sent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from ._errors import UsageError, UsageTypeError, UsageValueError
from ._places import SOCKET


class Endpoint(NamedTuple):
    """A gateway: `url` without a slash at its end."""

    url: str
    token: str | None


_AGENT = f"http+unix://{SOCKET}"


def inside() -> bool:
    """Whether this code runs in a container, for a call."""
    return "MUSTER_CALL_ID" in os.environ and os.path.exists(SOCKET)


def is_agent(endpoint: Endpoint) -> bool:
    """Whether it is this container's own agent, so that what is called is a child of this call."""
    return endpoint.url == _AGENT


def resolve(url: str | None = None, token: str | None = None) -> Endpoint:
    """The gateway to talk to; `UsageError` if nothing says which."""
    for name, value in (("url", url), ("token", token)):
        if value is not None and not isinstance(value, str):
            raise UsageTypeError(f"{name} must be a str, not {type(value).__name__}")
    url = url or os.environ.get("MUSTER_URL") or None
    token = token or os.environ.get("MUSTER_TOKEN") or None
    if url and token:
        return Endpoint(_checked(url), token)
    for path in (_config_path(), _service_path()):
        settings = _read(path)
        found = settings.get("url")
        if not found:
            continue
        if url is None:
            url = found
        if token is None and _checked(found) == _checked(url):
            token = settings.get("token")
        if token:
            break
    if url is None and inside():
        return Endpoint(_AGENT, None)
    if url is None:
        raise UsageError(
            "no gateway is known: set MUSTER_URL and MUSTER_TOKEN (or pass url= and token=), "
            "or start one on this machine with `make demo`"
        )
    return Endpoint(_checked(url), token)


def split_pin(token: str) -> tuple[str, str | None]:
    """The part of a token that is sent, and its pin."""
    parts = token.split("_")
    if len(parts) == 4 and parts[0] == "muster":
        return "_".join(parts[:3]), parts[3]
    return token, None


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise UsageValueError(
            f"the gateway's address must begin with http:// or https://, not {url!r}"
        )
    return url.rstrip("/")


def _config_path() -> Path:
    named = os.environ.get("MUSTER_CONFIG")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "muster" / "config.json"


def _service_path() -> Path:
    base = os.environ.get("MUSTER_STATE_DIR") or os.path.expanduser("~/.local/state/muster")
    return Path(base) / "service.json"


def _read(path: Path) -> dict[str, Any]:
    """What the file says; nothing if it is not there or not ours to read (another user's service)."""
    try:
        text = path.read_bytes()
    except OSError:
        return {}
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is not JSON ({error}); mend or remove it") from None
    if not isinstance(settings, dict):
        raise UsageError(f'{path} must hold an object, {{"url": ..., "token": ...}}')
    return settings
