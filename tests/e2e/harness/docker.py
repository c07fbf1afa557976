"""What Docker knows, through its own command line."""

import json
import subprocess


def docker(*arguments, data=None):
    """Runs `docker ARGUMENTS` and returns its standard output; fails with its standard error."""
    done = subprocess.run(
        ["docker", *arguments], input=data, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, (arguments, done.stderr.decode("utf-8", "replace"))
    return done.stdout.decode()


def containers(*labels, running_only=False):
    """The names of the containers that carry all these labels."""
    filters = [part for label in labels for part in ("--filter", f"label={label}")]
    everything = [] if running_only else ["--all"]
    return docker("ps", *everything, *filters, "--format", "{{.Names}}").split()


def inspect(name):
    """What Docker says of a container; None when it is gone."""
    done = subprocess.run(
        ["docker", "container", "inspect", name], capture_output=True, timeout=60, check=False
    )
    return json.loads(done.stdout)[0] if done.returncode == 0 else None
