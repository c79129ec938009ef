"""Untrusted requests: to the application in this process, and as bytes to a real server."""

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from fuzz.target import Target
from hrpose.detection import open_detector
from hrpose.errors import UserError
from hrpose.serve.app import create_app
from hrpose.serve.inference import Batcher, Service
from hrpose.serve.middleware import Limits, Metrics
from hrpose.session import open_session
from tiny_weights import write_tiny_weights

LIMITS = Limits(max_bytes=300_000, max_pixels=1_000_000, max_boxes=20)

# Shorter timeouts.
QUICK = """
from functools import partial
from hrpose.serve import middleware, server
server.HEAD_SECONDS = server.WRITE_SECONDS = 0.3
middleware.Limits = partial(middleware.Limits, idle_seconds=0.3, body_seconds=1)
from hrpose.cli.main import main
main()
"""
# Connections whose answers are not read yet.
OPEN = 32
SECONDS = 5


def _image() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((24, 17), 90).save(file, "PNG")
    return file.getvalue()


def _form(**fields: str) -> bytes:
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts.append(('name="image"; filename="a.png"', _image()))
    return (
        b"".join(
            b"--b\r\ncontent-disposition: form-data; %s\r\n\r\n%s\r\n" % (about.encode(), value)
            for about, value in parts
        )
        + b"--b--\r\n"
    )


# Line of the request, content type, body.
SEEDS = [
    ("POST /v1/poses", "image/png", _image()),
    ("POST /v1/poses?boxes=[[1,2,9,9]]&threshold=0.5", "image/png", _image()),
    ("POST /v1/poses", "multipart/form-data; boundary=b", _form()),
    ("POST /v1/poses", "multipart/form-data; boundary=b", _form(boxes="[[1,2,9,9]]", heatmaps="1")),
    ("POST /v1/poses?flip_test=true", 'multipart/form-data; boundary="b"', _form(threshold="0.2")),
    ("GET /v1/models", "", b""),
    ("GET /page/main.js", "", b""),
]  # fmt: skip


def check(status: int, body: bytes) -> None:
    """Raises UserError for a refusal, AssertionError for an answer that may not be."""
    assert status < 500 or status == 503, (status, body[:500])
    assert b"Traceback" not in body
    if status >= 400:
        reason = json.loads(body)["reason"]
        assert reason
        raise UserError(" ".join(reason.split()), code="refused")


class InProcess:
    """The application without a network: line, content type and body, each on lines of its own."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        session = open_session(write_tiny_weights(folder / "tiny.onnx"), threads=1)
        batcher = self._stack.enter_context(Batcher([session], gather_seconds=0, queue_crops=64))
        service = self._stack.enter_context(Service(batcher, [open_detector("none")], LIMITS))
        self._app = create_app(service, Metrics())
        self._loop = asyncio.new_event_loop()

    def __call__(self, data: bytes) -> None:
        line, _, rest = data.partition(b"\n")
        kind, _, body = rest.partition(b"\n")
        method, _, target = line.partition(b" ")
        path, _, query = target.partition(b"?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method.decode("latin-1"),
            "path": path.decode("utf-8", "replace"),
            "raw_path": path,
            "root_path": "",
            "scheme": "http",
            "query_string": query,
            "headers": [(b"content-type", kind), (b"content-length", b"%d" % len(body))],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 1),
        }
        sent: list[Any] = []
        pieces = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return pieces.pop() if pieces else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        self._loop.run_until_complete(self._app(scope, receive, send))
        if method != b"HEAD":
            check(sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:]))

    def close(self) -> None:
        self._loop.close()
        self._stack.close()


class OverSockets:
    """A real server on 127.0.0.1, and several connections at once, each with its own bytes."""

    def __init__(self, folder: Path) -> None:
        weights = write_tiny_weights(folder / "tiny.onnx")
        command = [sys.executable, "-c", QUICK, "serve", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--detector", "none", "--weights", str(weights)],
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("wb"),
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split(" at ")[1].split(";")[0]
        self._open: deque[socket.socket] = deque()
        self._log = folder / "log"
        self._count = 0

    def __call__(self, data: bytes) -> None:
        url = httpx.URL(self.url)
        connection = socket.create_connection((url.host, url.port or 80), timeout=SECONDS)
        self._open.append(connection)
        with suppress(OSError):  # the server closed the connection
            connection.sendall(data)
        self._count += 1
        if self._count % 100 == 0:
            health = httpx.get(f"{self.url}/healthz", timeout=SECONDS)
            # On a busy machine a head may take longer than its time above.
            assert health.status_code in (200, 408), health.text
            log = self._log.read_text(errors="replace")
            assert "Traceback" not in log, log[log.find("Traceback") :][:5000]
        if len(self._open) > OPEN:
            self._read(self._open.popleft())

    def _read(self, connection: socket.socket) -> None:
        """The answers until the server closes, which it must; the first is checked."""
        received = b""
        with connection:
            try:
                while data := connection.recv(65536):
                    received += data
            except ConnectionError:
                return  # it closed while bytes were on their way to it
        head, _, rest = received.partition(b"\r\n\r\n")
        if not head:
            return
        lines = head.split(b"\r\n")
        assert lines[0].startswith(b"HTTP/1.1 "), lines[0]
        lengths = [int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")]
        check(int(lines[0].split()[1]), rest[: sum(lengths)] or b'{"reason": "of HEAD"}')

    def close(self) -> None:
        while self._open:
            self._open.popleft().close()
        self.process.terminate()
        assert self.process.wait(30) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


def requests(folder: Path) -> Target:
    seeds = [b"%s\n%s\n%s" % (line.encode(), kind.encode(), body) for line, kind, body in SEEDS]
    return seeds, InProcess(folder)


def raw_requests(folder: Path) -> Target:
    seeds = [
        f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
        "\r\n\r\n".encode()
        + body
        for line, kind, body in SEEDS
    ]
    chunked = b"POST /v1/poses HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    chunked += b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    image = _image()
    seeds.append(chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(image), image))
    seeds.append(seeds[5] * 3)  # several requests at once
    return seeds, OverSockets(folder)
