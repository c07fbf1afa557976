"""Asks about this machine's own service, as `make up` leaves it. Standard library only.

python scripts/service.py ready exit code 0 when it takes calls and has a host, else says why not
python scripts/service.py show  how to use it, for people
python scripts/service.py env   the same as shell lines: eval "$(python scripts/service.py env)"
"""

from __future__ import annotations

import json
import os
import shlex
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class NotReady(Exception):
    pass


def service_file() -> Path:
    folder = os.environ.get("MUSTER_STATE_DIR") or Path.home() / ".local/state/muster"
    return Path(folder) / "service.json"


def service() -> tuple[str, str]:
    try:
        found = json.loads(service_file().read_text())
    except (OSError, ValueError) as error:
        raise NotReady(f"no service is running here ({service_file()}: {error})") from error
    return found["url"], found["token"]


def opener() -> urllib.request.OpenerDirector:
    """Goes past proxies, whatever the environment says; trusts the authority beside the file."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    authority = service_file().with_name("ca.pem")
    if authority.exists():
        context = ssl.create_default_context(cafile=str(authority))
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def get(path: str) -> Any:
    url, token = service()
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
    try:
        with opener().open(request, timeout=5) as response:
            return json.loads(response.read() or b"null") if path.startswith("/v1/") else None
    except (OSError, ValueError) as error:
        raise NotReady(f"{url}{path}: {error}") from error


def ready() -> None:
    get("/readyz")
    hosts = get("/v1/hosts")
    if not (hosts["hosts"] if isinstance(hosts, dict) else hosts):
        raise NotReady("the gateway is up, but no agent has joined it yet")


def show() -> None:
    url, _ = service()
    print(f"""
Muster is running at {url}

  Python:  .venv/bin/python, then: from muster import remote_parallel_map
  curl:    eval "$(.venv/bin/python scripts/service.py env)"
           curl -H "Authorization: Bearer $MUSTER_TOKEN" "$MUSTER_URL/v1/hosts"
  stop:    make down
""")


def env() -> None:
    url, token = service()
    print(f"export MUSTER_URL={shlex.quote(url)} MUSTER_TOKEN={shlex.quote(token)}")


COMMANDS = {"ready": ready, "show": show, "env": env}

if __name__ == "__main__":
    command = COMMANDS.get(sys.argv[1] if len(sys.argv) == 2 else "")
    if command is None:
        sys.exit(__doc__)
    try:
        command()
    except NotReady as reason:
        sys.exit(f"service: {reason}")
