"""`python -m benchmarks.peers`: rtmlib on the same images, boxes and weights, from JPEG to JSON.

    pip install --no-deps rtmlib && pip install tqdm

Its `ViTPose` class runs heatmap networks, one person after another; the weights are those of
hrpose, behind two operations that take its input (n, 3, h, w). Both run on ONNX Runtime in float32
with their own default threads. The rows are CPU time, which other load affects less; `--wall` is
for an idle machine. Memory is what one of both adds to a process that has imported both.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

import hrpose
from benchmarks.rows import Fact, Row, Table
from benchmarks.serving import resident
from hrpose import weights
from hrpose.synthetic import render_image

PERSONS = (1, 4, 16)
SIZES = {1: (640, 480), 4: (640, 480), 16: (1280, 960)}
Work = Callable[[], str]


def image_with(persons: int, folder: Path) -> tuple[Path, NDArray[np.float64]]:
    """A JPEG file and the boxes in it."""
    drawn = render_image(np.random.default_rng(persons), SIZES[persons], persons)
    file = folder / f"{persons}.jpg"
    cv2.imwrite(str(file), cv2.cvtColor(drawn.image, cv2.COLOR_RGB2BGR))
    return file, drawn.boxes


def for_rtmlib(source: Path, target: Path) -> Path:
    """The pose model with an input (n, 3, h, w) of floats from 0 to 255, as rtmlib gives it."""
    model = onnx.load(source)
    graph, (given,) = model.graph, list(model.graph.input)
    n, h, w, c = (dimension.dim_value or "n" for dimension in given.type.tensor_type.shape.dim)
    name = given.name
    floats = onnx.helper.make_tensor_value_info("floats", onnx.TensorProto.FLOAT, [n, c, h, w])
    nodes = [
        onnx.helper.make_node("Transpose", ["floats"], ["rows"], perm=[0, 2, 3, 1]),
        onnx.helper.make_node("Cast", ["rows"], [name], to=onnx.TensorProto.UINT8),
        *graph.node,
    ]
    del graph.input[:], graph.node[:]
    graph.input.append(floats)
    graph.node.extend(nodes)
    onnx.save(model, target)
    return target


def ours(name: str, file: Path, boxes: NDArray[np.float64], device: str = "cpu") -> Work:
    """From the file to JSON."""
    estimator = hrpose.load(name, detector="none", device=device)
    return lambda: estimator(file, boxes).to_json()


def theirs(name: str, file: Path, boxes: NDArray[np.float64], folder: Path) -> Work:
    """From the file to JSON."""
    from rtmlib import ViTPose  # type: ignore[import-not-found, unused-ignore]

    source = weights.find(name)
    size = hrpose.load(name, detector="none", device="cpu").metadata.input_wh
    model: Any = ViTPose(
        str(for_rtmlib(source, folder / "rtmlib.onnx")), size, mean=None, backend="onnxruntime"
    )
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)

    def work() -> str:
        keypoints, scores = model(cv2.imread(str(file))[..., ::-1], corners)
        return json.dumps({"keypoints": keypoints.tolist(), "scores": scores.tolist()})

    return work


def rows(name: str, wall: bool) -> Iterator[Row | Fact]:
    """A row for each number of persons, and the memory of both."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for persons in PERSONS:
            file, boxes = image_with(persons, folder)
            baseline = theirs(name, file, boxes, folder)
            for device in ("cpu", "auto"):
                estimator = hrpose.load(name, detector="none", device=device)
                yield Row(
                    f"`{name}`, {persons} persons of an image, JPEG to JSON, {estimator.engine}",
                    f"rtmlib {'' if wall else '(CPU time)'}",
                    ours(name, file, boxes, device),
                    baseline,
                    rounds=9,
                    wall=wall,
                )
        found = json.loads(ours(name, file, boxes)())["persons"]
        points = np.array([[(k["x"], k["y"]) for k in person["keypoints"]] for person in found])
        scores = np.array([[k["score"] for k in person["keypoints"]] for person in found])
        off = np.linalg.norm(points - json.loads(baseline())["keypoints"], axis=-1)
        sure = off[scores > 0.5]
        yield Fact(
            "keypoints with a score above .5: median distance between both",
            f"{np.median(sure):.2f} pixels",
        )
    for which in ("ours", "theirs"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.peers", "--weights", name, "--memory", which],
            check=True,
            capture_output=True,
            text=True,
        )
        yield Fact(f"memory added with 16 persons, {which}", f"{done.stdout.split()[-1]} MB")


def main() -> None:
    """Print the rows, or the memory of one of both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", default="w16-small")
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--memory", choices=("ours", "theirs"))
    given = parser.parse_args()
    if given.memory is None:
        table = Table()
        for row in rows(given.weights, given.wall):
            table.run(row)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file, boxes = image_with(16, folder)
        before = resident(os.getpid())
        work = (
            ours(given.weights, file, boxes)
            if given.memory == "ours"
            else theirs(given.weights, file, boxes, folder)
        )
        for _ in range(5):
            work()
        print(round(resident(os.getpid()) - before))


if __name__ == "__main__":
    main()
