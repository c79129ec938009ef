"""One client's connection: uvicorn's, with bounds before a request and after an answer.

What is no whole request reaches no application, so it is answered here.
"""

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hrpose.detection.detector import Detector
from hrpose.errors import UserError
from hrpose.serve.app import create_app
from hrpose.serve.batcher import Batcher
from hrpose.serve.middleware import Figures, Limits
from hrpose.serve.service import Service
from hrpose.session import Session

# From a connection's start, or a request's first byte, to the end of the request's head.
HEAD_SECONDS = 10
HEAD_BYTES = 65_536
# For a client to take what was sent, from when its buffers are full.
TAKE_SECONDS = 30
# Open connections, whatever they do. Most systems let a process have 1,024 files.
CONNECTIONS = 800
# A stopping server hears idle clients for so long: their next request may be on its way.
LEAVE_SECONDS = 0.5


class Connection(HttpToolsProtocol):
    """Closed in time where no whole head comes, or an answer is not taken.

    The first clock also runs where a body goes on after it was refused.
    """

    _head_clock: asyncio.TimerHandle | None = None
    _take_clock: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0
    _leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self._refuse(503, "busy", "expected fewer connections at once; try again in a second")
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, "too_large", f"expected a head of at most {HEAD_BYTES:,} bytes")
        self._watch()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        if self._leaving:
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head_clock = _stopped(self._head_clock)
        self._take_clock = _stopped(self._take_clock)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._take_clock = self.loop.call_later(TAKE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._take_clock = _stopped(self._take_clock)

    def shutdown(self) -> None:
        """Told once, when the server stops: the request under way is the last one."""
        self._leaving = True
        if self._answering():
            super().shutdown()
        else:
            self.loop.call_later(LEAVE_SECONDS, self._leave)

    def send_400_response(self, msg: str) -> None:
        if self._answering():  # what came before is still answered
            self.cycle.keep_alive = False
            self.flow.pause_reading()
        else:
            self._refuse(400, "bad_request", "expected an HTTP request, found something else")

    def _answering(self) -> bool:
        """Whether a request has begun whose answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    def _leave(self) -> None:
        if not self._answering():
            self.transport.close()

    def _watch(self) -> None:
        if self._answering():
            self._head_clock = _stopped(self._head_clock)
        elif self._head_clock is None and not self.transport.is_closing():
            self._head_clock = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if self.cycle is None:
            self._refuse(408, "too_slow", f"expected a request within {HEAD_SECONDS} seconds")
        self.transport.close()

    def _refuse(self, status: int, error: str, reason: str) -> None:
        """Answer what is no request, and close."""
        if self.transport.is_closing():
            return
        body = json.dumps({"error": error, "reason": reason}).encode()
        retry = "Retry-After: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {error}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def _stopped(clock: asyncio.TimerHandle | None) -> Any:
    if clock is not None:
        clock.cancel()


# How long a stopping server waits for requests that are still under way.
STOP_SECONDS = 90


def serve(
    sessions: Sequence[Session],
    listener: socket.socket,
    detector: Detector,
    *,
    token: str | None = None,
    limits: Limits | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; then answer what was taken, and return.

    Each session runs in a thread of its own. `ready` is called before the first request is taken.
    """
    limits = limits or Limits()
    figures = Figures()
    batcher = Batcher(
        sessions,
        gather_seconds=limits.gather_seconds,
        queue_crops=limits.queue_crops,
        observe=figures.batch_crops.observe,
    )
    with batcher, Service(batcher, detector, limits) as service:
        ready()
        _run(create_app(service, figures, token), listener)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections. Raises UserError where the address cannot be had."""
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = info[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{host}:{port}: cannot listen there ({reason}); choose another --port or --host"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address a browser opens."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _run(app: ASGIApp, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # Each request that is no HTTP would have a line of its own: clients could fill the disk.
        log_level=logging.ERROR,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    # Uvicorn raises the signal again after its end: here it has done its work by then.
    before = {kind: signal.signal(kind, _ignore) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _ignore(number: int, frame: object) -> None:
    pass
