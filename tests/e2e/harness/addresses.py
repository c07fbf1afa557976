"""Where this machine is."""

import subprocess


def addresses_of_this_host():
    """Its IPv4 addresses, but for 127.0.0.1."""
    text = subprocess.run(
        ["ip", "-4", "-o", "address"], capture_output=True, text=True, check=True, timeout=10
    ).stdout
    return sorted({line.split()[3].split("/")[0] for line in text.splitlines()} - {"127.0.0.1"})
