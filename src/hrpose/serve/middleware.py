"""What a request may ask for, and how it is refused."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request and on all together.

    `max_bytes` of an image's file and `max_pixels` of the image, checked before it is decoded;
    `max_boxes` in an image. `upload_bytes` of bodies in memory, `requests` under way and
    `queue_crops` waiting for the network, over all clients: beyond, the answer is 503.

    Seconds: `idle_seconds` between two pieces of a request, `body_seconds` for all of its body,
    `answer_seconds` from then on; `gather_seconds` is how long the first crop of a batch waits for
    others.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    max_boxes: int = 100
    upload_bytes: int = 400_000_000
    requests: int = 256
    queue_crops: int = 512
    idle_seconds: float = 10
    body_seconds: float = 60
    answer_seconds: float = 60
    gather_seconds: float = 0.004


class Refusal(Exception):
    """A request that is not answered: HTTP status, a code for programs, a reason for people."""

    def __init__(
        self, status: int, code: str, reason: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason
        self.headers = dict(headers or {})


def busy() -> Refusal:
    """The refusal of a request that came while there was too much to do."""
    reason = "expected fewer requests at once; try again in a second"
    return Refusal(503, "busy", reason, {"Retry-After": "1"})


SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
CROPS = (1, 2, 4, 8, 16, 32, 64)


class Figures:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "hrpose_requests",
            "Answered requests.",
            ("route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "hrpose_request_seconds",
            "From a request's first line to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.under_way = Gauge(
            "hrpose_requests_under_way", "Requests not yet answered.", registry=self.registry
        )
        self.waiting = Gauge(
            "hrpose_waiting_crops", "Crops that wait for the network.", registry=self.registry
        )
        self.batch_crops = Histogram(
            "hrpose_batch_crops",
            "Crops in one run of the network.",
            buckets=CROPS,
            registry=self.registry,
        )
        self.persons = Counter(
            "hrpose_persons", "People whose keypoints were found.", registry=self.registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)


HEADERS = {
    # Only what this server sends may run or load; an image may also come from the page itself.
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
