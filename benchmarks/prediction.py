"""Prediction on a CPU: a large network on a group image, and the command from a cold start."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import plain
from benchmarks.rows import Fact, Row, timed
from hrpose.api import load
from hrpose.estimator import PoseEstimator
from hrpose.geometry import Crop
from hrpose.metadata import Metadata
from hrpose.models import checkpoint
from hrpose.models.export import export
from hrpose.models.hrnet import HRNet
from hrpose.session import OnnxSession

PERSONS = 16
EXAMPLE = Path(__file__).parents[1] / "examples" / "astronaut.jpg"


def rows() -> Iterator[Row | Fact]:
    """The weights are random; the time does not depend on them."""
    with tempfile.TemporaryDirectory() as name:
        yield _own_work(Path(name))
        yield from _w32(Path(name))
        yield from _large_file(Path(name))
        yield from _cold(Path(name))


class _Ready:
    """A session with ready heatmaps, which leaves the work of the estimator itself."""

    metadata = Metadata("w32", (192, 256))

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.heatmaps = rng.uniform(size=(PERSONS, 17, 64, 48)).astype(np.float32)

    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.heatmaps[: len(crops)]


def _group_image(folder: Path) -> tuple[Path, NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (48, 64, 3), np.uint8), (1280, 960))
    portrait = folder / "photo.jpg"
    cv2.imwrite(str(portrait), image)
    corners, sizes = rng.uniform(0, 700, (PERSONS, 2)), rng.uniform(100, 250, (PERSONS, 2))
    return portrait, np.concatenate([corners, sizes], axis=1)


def _own_work(folder: Path) -> Fact:
    image, boxes = _group_image(folder)
    estimator = PoseEstimator(_Ready(), batch_size=PERSONS)  # type: ignore[arg-type]
    seconds: list[float] = []
    for _ in range(9):
        with timed(wall=False) as taken:
            estimator(image, boxes)
        seconds += taken
    return Fact(
        f"reading, cropping and decoding, {PERSONS} people of an image of 1280 x 960",
        f"{np.median(seconds) / PERSONS * 1000:.1f} ms of CPU a person",
        "5 % of W32's forward pass",
    )


def _w32(folder: Path) -> Iterator[Row]:
    torch.manual_seed(0)
    network, metadata = HRNet.from_name("w32").eval(), Metadata("w32", (192, 256))
    for parameter in network.parameters():
        if parameter.ndim == 4:  # the published initialization fades to denormal numbers
            torch.nn.init.kaiming_normal_(parameter)
    checkpoint.save(folder / "w32.safetensors", network, metadata)
    export(folder / "w32.safetensors", folder / "w32.onnx")
    session = OnnxSession(folder / "w32.onnx")
    estimator = PoseEstimator(session, batch_size=PERSONS)
    image, boxes = _group_image(folder)
    rng = np.random.default_rng(1)
    crops = [Crop.from_box(box, (192, 256)) for box in boxes]
    ready = rng.integers(0, 256, (PERSONS, 256, 192, 3), np.uint8)
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    yield Row(
        f"W32 256x192, {PERSONS} people of an image, flip test off",
        "PyTorch eager, float32, one crop and keypoint at a time",
        lambda: estimator(image, boxes),
        lambda: plain.predict(network, image, crops),
        2.2,
        rounds=5,
        wall=True,
        per=PERSONS,
    )
    yield Row(
        "the same",
        "a bare `session.run` on ready crops",
        lambda: estimator(image, boxes),
        lambda: session(ready),
        0.95,
        rounds=5,
        wall=True,
        per=PERSONS,
    )


def _large_file(folder: Path) -> Iterator[Row]:
    """One person who fills the height of an image of phone size."""
    portrait = folder / "large.jpg"
    image = cv2.resize(cv2.imread(str(EXAMPLE)), (4000, 3000), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(portrait), image)
    box = [[800, 100, 2400, 2800]]
    reduced, exact = (load(detector="none", exact=choice) for choice in (False, True))
    yield Row(
        "`w16-small`, one person in a JPEG file of 4000 x 3000",
        "the same with `exact`",
        lambda: reduced(portrait, box),
        lambda: exact(portrait, box),
        2.0,
        rounds=9,
    )


def _cold(folder: Path) -> Iterator[Fact]:
    program = str(Path(sys.executable).with_name("hrpose"))
    command = [program, "predict", str(EXAMPLE), "--overwrite"]
    importing = [sys.executable, "-c", "import hrpose"]
    alone = [sys.executable, "-c", "pass"]
    for what, wanted, arguments in (
        ("`hrpose predict` on one image, cold process", "under 1.5 s", command),
        ("`import hrpose`, cold process", "under 0.2 s", importing),
        ("Python alone", "", alone),
    ):
        seconds = []
        for _ in range(5):
            with timed() as taken, contextlib.chdir(folder):
                subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
            seconds += taken
        yield Fact(what, f"{np.median(seconds):.2f} s", wanted)
