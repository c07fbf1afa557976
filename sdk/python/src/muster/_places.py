"""Where a container has what its agent gives it (PROTOCOL.md 6)."""

SOCKET = "/.muster/socket/call.sock"
"""What a function asks for data and makes calls with."""

MOUNTS = "/.muster/mnt"
"""Shared data and packages."""

PACKAGES = f"{MOUNTS}/packages"
"""What the call needs and the image does not have."""
