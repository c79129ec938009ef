"""Limits, allowed hosts and origins, refusals of requests, metrics, and the middleware around."""

import ipaddress
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hrpose.errors import UserError

# Of all headers of a request, with their names.
HEAD_BYTES = 65_536


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


# Host and port; an IPv6 address in brackets.
_NAME = r"\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+"
_HOST = rf"({_NAME})(?::([0-9]{{1,5}}))?"
_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Access:
    """Which names the server answers to, and pages of which origins may send requests to it.

    Any name may point to 127.0.0.1 (DNS rebinding): for a browser, a page at such a name is of the
    same origin as the server. So names must be known; those of the loopback are. An IP address as
    the host is not at risk; with `addresses` it is accepted.

    `hosts` are lower case; `*.example.com` stands for all names under example.com, `*` for every
    name. `origins` are as browsers send them, and may read answers too.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    addresses: bool = False

    @classmethod
    def parse(cls, hosts: Sequence[str], origins: Sequence[str]) -> Self:
        """From `--allowed-host` and `--allowed-origin`. Raises UserError [option-invalid]."""
        for host in hosts:
            if not re.fullmatch(rf"(\*\.)?({_NAME})|\*", host, re.ASCII):
                raise UserError(
                    "--allowed-host: expected a name such as pose.example.com, found "
                    f"{host[:100]!r}; leave out http:// and the port",
                    code="option-invalid",
                )
        for origin in origins:
            if _origin(origin) is None:
                raise UserError(
                    "--allowed-origin: expected an origin such as https://example.com, found "
                    f"{origin[:100]!r}; leave out the path",
                    code="option-invalid",
                )
        return cls(frozenset(map(str.lower, hosts)), frozenset(map(str.lower, origins)))

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is refused, by its Host and, if it may change something, its Origin."""
        hosts = _values(scope, b"host")
        # HTTP/1.0 needs no host; no browser sends that.
        if hosts and not (len(hosts) == 1 and self._answers_to(hosts[0])):
            found = ", ".join(hosts)[:100]
            reason = f"host: expected a name of this server, found {found!r}; see --allowed-host"
            return Refusal(421, "wrong_host", reason)
        if scope["method"] in ("GET", "HEAD", "OPTIONS") or self._may_send(scope, hosts):
            return None
        reason = (
            "expected a request from this server's page or a program, not a page of another "
            "origin; see --allowed-origin"
        )
        return Refusal(403, "other_site", reason)

    def _answers_to(self, host: str) -> bool:
        match = re.fullmatch(_HOST, host)
        if match is None:
            return False
        name = match[1].lower().removesuffix(".")
        if is_loopback(name) or (self.addresses and _address(name) is not None):
            return True
        return any(
            name.endswith(known[1:]) if known.startswith("*") else name == known
            for known in self.hosts
        )

    def _may_send(self, scope: Scope, hosts: list[str]) -> bool:
        origins, sites = _values(scope, b"origin"), _values(scope, b"sec-fetch-site")
        if len(origins) > 1 or len(sites) > 1:
            return False
        if origins and origins[0].lower() in self.origins:
            return True
        if sites:  # browsers say so, where they trust the address; pages cannot change it
            return sites[0] in ("same-origin", "none")
        if not origins:  # no browser
            return True
        origin = _origin(origins[0])
        match = re.fullmatch(_HOST, hosts[0]) if hosts else None
        if origin is None or match is None:
            return False
        scheme, name, port = origin
        return (name, port) == (match[1].lower(), match[2] or _PORTS[scheme])


def is_loopback(name: str) -> bool:
    """Whether a lower-case host, an IPv6 address with or without brackets, is this machine."""
    address = _address(name)
    if address is None:
        return name == "localhost" or name.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _origin(text: str) -> tuple[str, str, str] | None:
    """Scheme, host and port of an origin; None where it is none, or `null`."""
    match = re.fullmatch(rf"(https?)://{_HOST}", text.lower())
    return match and (match[1], match[2], match[3] or _PORTS[match[1]])


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


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


_HEADERS = {
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
    # Where the answer says nothing else.
    "cache-control": "no-store",
}
# As ASGI has them.
HEADERS = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

# Answered even when the server is full.
ALWAYS = ("/healthz", "/readyz")


class Middleware:
    """The outermost ASGI layer: refuses early what costs nothing yet, sets the headers, counts.

    At most `requests` are answered at a time.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, requests: int, access: Access) -> None:
        self._app = app
        self._access = access
        self._metrics = metrics
        self._requests = requests
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 500
        if scope["method"] == "HEAD":  # the server leaves out the body
            scope = {**scope, "method": "GET"}

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                present = {name for name, _ in headers}
                headers += [header for header in HEADERS if header[0] not in present]
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
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES:
            return Refusal(431, "too_large", f"expected a head of at most {HEAD_BYTES:,} bytes")
        if refusal := self._access.refusal(scope):
            return refusal
        if self._in_progress > self._requests and scope["path"] not in ALWAYS:
            return busy()
        if not scope["query_string"].isascii():
            return Refusal(400, "bad_request", "query: expected ASCII, others percent-encoded")
        if not scope["path"].startswith("/"):
            reason = f"target: expected a path, found {scope['path'][:100]!r}"
            return Refusal(400, "bad_request", reason)
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            # Another server before this one may have read another end of the body.
            reason = "expected Content-Length or Transfer-Encoding, found both"
            return Refusal(400, "bad_request", reason, {"Connection": "close"})
        return None


def _route(scope: Scope) -> str:
    """The path of the route, not of the URL: clients must not create new metrics."""
    route: Any = scope.get("route")
    return getattr(route, "path", "none")
