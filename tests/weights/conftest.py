"""A real server on this machine, which cuts, is and refuses on demand."""

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest


class Server(ThreadingHTTPServer):
    """Serves `content` at any path. `cuts` holds how many bytes each next answer sends at most.

    `pace` is the seconds between blocks of 64 kB.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = np.random.default_rng(0).bytes(3_000_000)
        self.cuts: list[int] = []
        self.ranges = True
        self.pace = 0.0
        self.says_length = True
        self.requests: list[str | None] = []

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights-{self.sha256[:8]}.pth"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved?"))
            self.end_headers()
            return
        if self.path.startswith("/none"):
            return self.send_error(404)
        content, start = self.server.content, 0
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.server.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
        for start in range(0, len(body), 65536):
            time.sleep(self.server.pace)
            try:
                self.wfile.write(body[start : start + 65536])
            except ConnectionError:  # whoever asked was killed
                break
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
