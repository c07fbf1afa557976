"""The Python runner: the program that runs a call's inputs inside a container.

Pid 1 starts it on the image's own Python (PROTOCOL.md 6.1), with the data channel on descriptor 3 and the shared page
on 4. It says HELLO, is then warm, and gets SPEC and FUNCTION once and INPUTS batch by batch. It owns nothing else: the
end of the channel is its end, and whatever kills it is read off the page by the agent.

- `_channel` reads frames, writes RESULTS, and keeps the page: which input runs, and the results not sent yet;
- `_streams` is stdout and stderr: flushing them and counting their bytes at the end of an input;
- `_load` turns SPEC and FUNCTION into something to call; `_modules` puts travelling modules on `sys.path`;
- `_pickles` pickles outputs, `_describe` exceptions;
- `_loop` is the loop over a batch, the one place here where a tenth of a microsecond counts.

The user's code runs in this process, in its main thread, and may do anything: print through C, exit, fork, close
descriptors, replace `sys.stdout`. So the channel and the page live on high descriptors that no child inherits,
a forked child that comes back into the loop ends there, and streams that were closed are opened again.

Nothing of the client is imported here, and what the image's Python may lack (ctypes) is done without.
"""

from __future__ import annotations

import sys
from types import ModuleType


def main(channel: int = 3, page: int = 4) -> None:
    """Runs inputs until the channel ends; never returns."""
    # The working folder is the user's: nothing of ours, and nothing by accident, may be imported from there.
    own = sys.path[0]
    sys.path[:] = [folder for folder in sys.path if folder]
    sys.argv = [""]
    # User code must not find this program where its own main module would be.
    sys.modules["__main__"] = ModuleType("__main__")
    from ._channel import Channel

    link = Channel(channel, page)
    link.hello()
    from ._loop import serve

    # All of ours is imported, or will be found at the end: the image's own packages come first.
    sys.path.remove(own)
    sys.path.append(own)
    serve(link)
