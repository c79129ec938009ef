"""One client's connection: uvicorn's, with bounds before a request and after an answer.

What is no whole request reaches no application, so it is answered here.
"""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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
