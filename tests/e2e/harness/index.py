"""A package index over HTTP that hands out wheels when the test says so."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile


class HeldIndex:
    """Serves the wheels of a folder on a loopback port, as a context manager. Who fetches one gets its
    first byte, and the rest after `let_go`."""

    def __init__(self, folder):
        index = self
        self._wheels = {path.name: path for path in Path(folder).glob("*.whl")}
        self._free = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                index._answer(self)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/simple"

    def let_go(self):
        self._free.set()

    def _answer(self, request):
        name = request.path.rstrip("/").rpartition("/")[2]
        if name in self._wheels:
            self._send(request, self._wheels[name].read_bytes(), held=True)
        elif name.removesuffix(".metadata") in self._wheels:
            self._send(request, _metadata(self._wheels[name.removesuffix(".metadata")]))
        else:
            wanted = name.replace("-", "_")
            found = [file for file in self._wheels if file.split("-")[0] == wanted]
            links = [f'<a data-core-metadata="true" href="/{file}">{file}</a>' for file in found]
            self._send(request, "".join(links).encode(), 200 if found else 404)

    def _send(self, request, body, status=200, held=False):
        request.send_response(status)
        request.send_header("Content-Type", "application/octet-stream" if held else "text/html")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        # An installer that has ended takes no more.
        with contextlib.suppress(OSError):
            request.wfile.write(body[:1])
            if held:
                self._free.wait()
            request.wfile.write(body[1:])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.let_go()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _metadata(wheel):
    with ZipFile(wheel) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("/METADATA")))
