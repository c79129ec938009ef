"""Around every request: how many at once, the headers of every answer, the figures."""

import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hrpose.serve.figures import Figures
from hrpose.serve.limits import Refusal, busy

HEADERS = {
    # Only what this server sends may run or load; a picture may also come from the page itself.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

# A server that is full is still alive.
ALWAYS = ("/healthz", "/readyz")


class Door:
    """Pure ASGI, outermost: what is turned away here has cost nothing."""

    def __init__(self, app: ASGIApp, figures: Figures, most: int) -> None:
        self._app = app
        self._figures = figures
        self._most = most
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        self._inside += 1
        self._figures.under_way.set(self._inside)
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(scope, receive, send_dressed)
            else:
                content = {"error": refusal.code, "reason": refusal.reason}
                answer = JSONResponse(content, refusal.status, refusal.headers)
                await answer(scope, receive, send_dressed)
        finally:
            self._inside -= 1
            self._figures.under_way.set(self._inside)
            route = _route(scope)
            self._figures.requests.labels(route, str(status)).inc()
            self._figures.seconds.labels(route).observe(time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> Refusal | None:
        if self._inside > self._most and scope["path"] not in ALWAYS:
            return busy()
        if not scope["query_string"].isascii():
            return Refusal(400, "bad_request", "query: expected ASCII, others percent-encoded")
        # A page elsewhere may lead here, but not have its visitors' browsers send requests.
        if scope["method"] == "POST" and (b"sec-fetch-site", b"cross-site") in scope["headers"]:
            reason = "expected a request of this server's page or of a program, not of another site"
            return Refusal(403, "other_site", reason)
        return None


def _route(scope: Scope) -> str:
    """The route's own path: what a client wrote into the URL makes no new figures."""
    route: Any = scope.get("route")
    return getattr(route, "path", "none")
