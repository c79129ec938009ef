"""What a request may ask for, and how it is refused."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request and on all together.

    `max_bytes` of a picture's file and `max_pixels` of the picture, checked before it is decoded;
    `max_boxes` in a picture. `upload_bytes` of bodies in memory, `requests` under way and
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
