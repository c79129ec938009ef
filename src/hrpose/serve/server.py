"""Run the application in uvicorn until a signal, with bounds on every connection.

A request whose head is broken never reaches the application, so it is answered here.
"""

import asyncio
import gc
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from hrpose.detection import open_detector
from hrpose.errors import UserError
from hrpose.estimator import Detector
from hrpose.serve.app import create_app
from hrpose.serve.inference import Batcher, Service
from hrpose.serve.middleware import HEAD_BYTES, Access, Limits, Metrics, is_loopback
from hrpose.session import OnnxSession, Session, open_session, usable_cores

# From the start of a connection, or the first byte of a request, to the end of its head.
HEAD_SECONDS = 10
# For a client to read what was sent, from when its buffers are full.
WRITE_SECONDS = 30
# Of a body in chunks, on average; so many tiny ones are accepted.
CHUNK_BYTES = 128
TINY_CHUNKS = 1_000
# Open connections in all. Most systems allow a process 1,024 files.
CONNECTIONS = 800
# A stopping server keeps idle connections this long: a request may be on its way.
GRACE_SECONDS = 0.5
# A header of each answer of a stopping server.
CLOSE = (b"connection", b"close")
# How long a stopping server waits for requests in progress.
STOP_SECONDS = 90


class Parser(h11.Connection):
    """h11, without bodies of very many tiny chunks: each takes the time of a large one."""

    _credit: float = TINY_CHUNKS

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Data):
            earned = len(event.data) / CHUNK_BYTES
            self._credit = min(self._credit + earned, TINY_CHUNKS) - event.chunk_start
            if self._credit < 0:
                raise h11.RemoteProtocolError("too many tiny chunks")
        return event


class Connection(H11Protocol):
    """A connection that is closed where no complete head comes in time, or no answer is read.

    Uvicorn bounds neither. What is added here stands on the callbacks of asyncio and the states of
    h11: a server's own state says whether a request is in progress.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.conn = Parser(h11.SERVER, HEAD_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            self._refuse(503, "busy", "expected fewer connections at once; try again in a second")
        else:
            self._set_timer()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._set_timer()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether to stay open: a client that has sent its request may wait for the answer."""
        return self._answering() and self.conn.their_state is not h11.SEND_BODY

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head_timer = _canceled(self._head_timer)
        self._write_timer = _canceled(self._write_timer)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_timer = _canceled(self._write_timer)

    def shutdown(self) -> None:
        """Called when the server stops, and accepts no more connections.

        Not earlier: a client that connects again meanwhile would be reset.
        """
        headers = self.server_state.default_headers
        if CLOSE not in headers:
            headers.append(CLOSE)
        self.loop.call_later(GRACE_SECONDS, self._close)

    def send_400_response(self, msg: str) -> None:
        """Called where h11 cannot read on."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # the answer, or a part of it, is sent
        elif getattr(sys.exception(), "error_status_hint", 400) == 431:
            self._refuse(431, "too_large", f"expected a head of at most {HEAD_BYTES:,} bytes")
        else:
            self._refuse(400, "bad_request", "expected an HTTP request, found something else")

    def _answering(self) -> bool:
        """Whether a request is in progress."""
        return self.conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY)

    def _close(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()

    def _waiting(self) -> bool:
        """Whether nothing of a next request is received."""
        return self.conn.our_state is h11.IDLE and not self.conn.trailing_data[0]

    def _set_timer(self) -> None:
        # It also runs while the rest of a refused body is received, and starts again at its end.
        if self._answering() or self._waiting():
            self._head_timer = _canceled(self._head_timer)
        if self._head_timer is None and not self._answering() and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._time_out)

    def _time_out(self) -> None:
        # Where requests were answered, 408 could be taken for the answer to the next one.
        if self.conn.our_state is h11.IDLE and not (self.cycle and self._waiting()):
            self._refuse(408, "too_slow", f"expected a request within {HEAD_SECONDS} seconds")
        self.transport.close()

    def _refuse(self, status: int, error: str, reason: str) -> None:
        """Answer without the application, and close."""
        body = json.dumps({"error": error, "reason": reason}).encode()
        retry = "Retry-After: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {error}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def _canceled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; what to store instead of it."""
    if timer is not None:
        timer.cancel()
    return None


def open_networks(
    weights: Path, detector: str, device: str, precision: str, workers: int | None
) -> tuple[list[Session], list[Detector]]:
    """Sessions and detectors for `serve`.

    `workers` is the number of batches that run at the same time; None for two, or one on a GPU.
    """

    def open_both(threads: int | None) -> tuple[Session, Detector]:
        session = open_session(weights, threads, device, precision)
        return session, open_detector(detector, threads=threads, device=device, precision=precision)

    session, opened = open_both(None)
    cores = usable_cores()
    if workers is None:  # PyTorch has threads of its own, and a GPU runs one batch at a time
        on_cpu = isinstance(session, OnnxSession) and session.engine.on_cpu
        workers = min(2, cores) if on_cpu else 1
    if workers == 1:
        return [session], [opened]
    shared = [open_both(max(1, cores // workers)) for _ in range(workers)]
    return [session, *(s for s, _ in shared)], [opened, *(d for _, d in shared)]


def serve(
    sessions: Sequence[Session],
    listener: socket.socket,
    detectors: Sequence[Detector],
    *,
    token: str | None = None,
    access: Access | None = None,
    limits: Limits | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer the requests in progress and return.

    Of several sessions or detectors, the first is for one request alone, and may use all cores; the
    others share them. `ready` is called before the first request is accepted.
    """
    # Requests are what runs side by side here: OpenCV's own threads would only spin between them.
    cv2.setNumThreads(1)
    limits = limits or Limits()
    access = access_at(listener, access or Access())
    metrics = Metrics()
    batcher = Batcher(
        sessions,
        gather_seconds=limits.gather_seconds,
        queue_crops=limits.queue_crops,
        observe=metrics.batch_crops.observe,
    )
    with batcher, Service(batcher, detectors, limits) as service:
        metrics.engine.labels(service.engine).set(1)
        app = create_app(service, metrics, token, access)
        gc.freeze()  # what is made so far stays: no use to look for garbage in it again and again
        ready()
        run(app, listener)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 chooses a free one. Raises UserError where it cannot listen."""
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
            f"{host}:{port}: cannot listen there ({reason}); choose another --port or --host",
            code="address-unavailable",
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def access_at(listener: socket.socket, access: Access) -> Access:
    """The access to a server that listens there: other machines may name its IP address."""
    if is_loopback(listener.getsockname()[0]):
        return access
    return replace(access, addresses=True)


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Answer requests to an application until SIGTERM or SIGINT, then those in progress."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # Every request that is not HTTP would be logged as a warning: clients could fill the disk.
        log_level=logging.ERROR,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    # Uvicorn raises the signal again at its end: by then it has done its work here.
    before = {kind: signal.signal(kind, _ignore) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _ignore(number: int, frame: object) -> None:
    pass
