"""A server process: its socket, its signals, its end."""

import logging
import signal
import socket
from collections.abc import Callable, Sequence

import uvicorn
from starlette.types import ASGIApp

from hrpose.detection.detector import Detector
from hrpose.errors import UserError
from hrpose.serve.app import create_app
from hrpose.serve.batcher import Batcher
from hrpose.serve.figures import Figures
from hrpose.serve.limits import Limits
from hrpose.serve.protocol import Connection
from hrpose.serve.service import Service
from hrpose.session import Session

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
