"""What `/metrics` shows, in Prometheus's form."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

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
        self.people = Counter(
            "hrpose_people", "People whose keypoints were found.", registry=self.registry
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
