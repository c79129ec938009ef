"""A server in this process, and a real one; images whose answers are known."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.types import ASGIApp

from hrpose.detection import open_detector
from hrpose.detection.person_detector import AnyDetector
from hrpose.metadata import Metadata
from hrpose.serve.app import create_app
from hrpose.serve.inference import Batcher, Service
from hrpose.serve.middleware import Access, Limits, Metrics
from hrpose.session import Session, open_session
from tiny_weights import write_tiny_weights

from .tab import Tab

NUMBERS = 24
SIZE = (96, 128)


def place_of(number: int) -> tuple[int, int]:
    """The position of the bright spot in the image of a number, 20 pixels from that of the next."""
    return 14 + 20 * (number % 4), 14 + 20 * (number // 4)


def image_of(number: int, kind: str = "PNG") -> bytes:
    """A dark image with one bright spot. The tiny weights put every keypoint there."""
    x, y = place_of(number)
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[y - 7 : y + 8, x - 7 : x + 8] = 90
    pixels[y - 3 : y + 4, x - 3 : x + 4] = 250
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def number_in(answer: dict[str, Any]) -> int:
    """The number whose bright spot is nearest to all keypoints of the only person."""
    (person,) = answer["persons"]
    points = np.array([[point["x"], point["y"]] for point in person["keypoints"]])
    places = np.array([place_of(number) for number in range(NUMBERS)])
    nearest = np.linalg.norm(points[:, None] - places, axis=-1).argmin(axis=1)
    assert len(set(nearest.tolist())) == 1
    return int(nearest[0])


@dataclass
class Server:
    """An application, called without sockets."""

    app: ASGIApp
    limits: Limits
    metrics: Metrics
    batcher: Batcher

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self.ask(method, path, **options))

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    def poses(self, image: bytes, **fields: str) -> httpx.Response:
        return self.request("POST", "/v1/poses", files={"image": image}, data=fields)


# A small server: every bound can be reached in a test.
LIMITS = Limits(
    max_bytes=300_000, max_pixels=1_000_000, max_boxes=20, idle_seconds=0.2, body_seconds=1
)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.onnx")


@pytest.fixture(scope="session")
def session(weights: Path) -> Session:
    return open_session(weights, threads=1)


Serve = Callable[..., Server]


@pytest.fixture
def serve(session: Session) -> Iterator[Serve]:
    """Make servers that end with the test."""
    ends: list[Callable[[], None]] = []

    def make(
        own: Session = session,
        token: str | None = None,
        limits: Limits = LIMITS,
        detector: AnyDetector = "full-image",
        access: Access | None = None,
    ) -> Server:
        metrics = Metrics()
        batcher = Batcher(
            [own],
            gather_seconds=limits.gather_seconds,
            queue_crops=limits.queue_crops,
            observe=metrics.batch_crops.observe,
        )
        batcher.__enter__()
        service = Service(batcher, [open_detector(detector)], limits)
        ends.append(lambda: service.__exit__(None, None, None))
        ends.append(lambda: batcher.__exit__(None, None, None))
        return Server(create_app(service, metrics, token, access), limits, metrics, batcher)

    yield make
    for end in ends:
        end()


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve()


@dataclass
class SlowSession:
    """A session that waits for the gate."""

    session: Session
    gate: threading.Event
    entered: threading.Event = field(default_factory=threading.Event)

    @property
    def metadata(self) -> Metadata:
        return self.session.metadata

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.gate.wait(10)
        return self.session(crops)


@dataclass
class Process:
    """A real `hrpose serve`."""

    process: "subprocess.Popen[str]"
    url: str

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture(scope="module")
def start(weights: Path) -> Iterator[Callable[..., Process]]:
    """Start servers that end with the module. `before` is Python code that runs first."""
    started: list[Process] = []

    def start(*words: object, before: str = "") -> Process:
        given = [str(word) for word in words]
        if "--weights" not in given:
            given += ["--weights", str(weights)]
        code = f"{before}\nfrom hrpose.cli.main import main\nmain()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", "--port", "0", "--detector", "none", *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        assert "http://" in first, first + process.stdout.read()
        started.append(Process(process, first.split(" at ")[1].split(";")[0]))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop()
        assert one.process.stdout is not None
        one.process.stdout.close()


@pytest.fixture(scope="module")
def url(start: Callable[..., Process]) -> str:
    """The address of a server with a trained model, for the page."""
    return start("--weights", "w16-small").url


@pytest.fixture
def tab(browser: Any, url: str) -> Iterator[Tab]:
    """A tab with the page, which reports no fault."""
    tab = Tab(browser, url)
    yield tab
    tab.context.close()
    assert tab.faults == []
