"""The limits of requests, how a request is refused, metrics, and the middleware around all."""

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

    `max_bytes` of an image file and `max_pixels` of the image, checked before it is decoded;
    `max_boxes` in an image. Over all clients `upload_bytes` of bodies in memory, `requests` in
    progress and `queue_crops` waiting for the network: beyond them the answer is 503.

    Seconds: `idle_seconds` between two chunks of a request, `body_seconds` for its whole body,
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
    """A request that is refused: HTTP status, a code for programs, a reason for people.

    `cause` is the code of the UserError behind it, if one is.
    """

    def __init__(
        self,
        status: int,
        code: str,
        reason: str,
        headers: Mapping[str, str] | None = None,
        cause: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason
        self.headers = dict(headers or {})
        self.cause = cause


def busy() -> Refusal:
    """The refusal of a request while the server has too much to do."""
    reason = "expected fewer requests at once; try again in a second"
    return Refusal(503, "busy", reason, {"Retry-After": "1"})


SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
CROPS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The Prometheus metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "hrpose_requests", "Answered requests.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "hrpose_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.under_way = Gauge(
            "hrpose_requests_under_way", "Requests in progress.", registry=self.registry
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
            "hrpose_persons", "Persons whose keypoints were estimated.", registry=self.registry
        )

        self.engine = Gauge(
            "hrpose_engine_info",
            "What runs the networks: always 1, the label says it.",
            ["engine"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


HEADERS = {
    # Only files of this server run or load; images may also be made by the page itself.
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

# Answered even when the server is full.
ALWAYS = ("/healthz", "/readyz")


class Middleware:
    """The outermost ASGI layer: refuses early what costs nothing yet, sets the headers, counts.

    At most `requests` are answered at a time.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, requests: int) -> None:
        self._app = app
        self._metrics = metrics
        self._requests = requests
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        self._in_progress += 1
        self._metrics.under_way.set(self._in_progress)
        try:
            refusal = self._refusal(scope)
            if refusal is None:
                await self._app(scope, receive, send_with_headers)
            else:
                content = {"error": refusal.code, "reason": refusal.reason}
                answer = JSONResponse(content, refusal.status, refusal.headers)
                await answer(scope, receive, send_with_headers)
        finally:
            self._in_progress -= 1
            self._metrics.under_way.set(self._in_progress)
            route = _route(scope)
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> Refusal | None:
        if self._in_progress > self._requests and scope["path"] not in ALWAYS:
            return busy()
        if not scope["query_string"].isascii():
            return Refusal(400, "bad_request", "query: expected ASCII, others percent-encoded")
        # Another site may link here, but not make its visitors' browsers send requests.
        if scope["method"] == "POST" and (b"sec-fetch-site", b"cross-site") in scope["headers"]:
            reason = "expected a request from this server's page or a program, not another site"
            return Refusal(403, "other_site", reason)
        return None


def _route(scope: Scope) -> str:
    """The path of the route, not of the URL: clients must not create new metrics."""
    route: Any = scope.get("route")
    return getattr(route, "path", "none")
