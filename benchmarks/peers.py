"""`python -m benchmarks.peers`: rtmlib on the same images, boxes and weights, from JPEG to JSON.

    pip install --no-deps rtmlib && pip install tqdm

Its `ViTPose` class runs heatmap networks, one person after another; the weights are those of
hrpose, written by `hrpose export --for rtmlib`. Both run on ONNX Runtime in float32 with their own
default threads. The rows are CPU time, which other load affects less; `--wall` is for an idle
machine. Memory is what one of both adds to a process that has imported both.

`--annotations FILE --images FOLDER` measures accuracy instead: the AP of hrpose, and of rtmlib on
the exported file and on the model's own heatmaps; and the AP that the labels themselves keep when
they are drawn as heatmaps of each codec and read by rtmlib.
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
from hrpose.codec import CODECS, Codec, encode
from hrpose.evaluation.error_analysis import read_truth
from hrpose.geometry import Crop, transform, xywh_to_xyxy
from hrpose.metadata import Metadata
from hrpose.metrics.coco import evaluate_keypoints, to_results
from hrpose.models.rtmlib import export_rtmlib
from hrpose.poses import rescore
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


def in_rtmlib(path: Path, input_wh: tuple[int, int]) -> Any:
    """The pose model of rtmlib's `Custom`: of a BGR image and corners of boxes, keypoints and
    scores.
    """
    from rtmlib import Custom  # type: ignore[import-not-found, unused-ignore]

    return Custom(pose_class="ViTPose", pose=str(path), pose_input_size=input_wh).pose_model


def ours(name: str, file: Path, boxes: NDArray[np.float64], device: str = "cpu") -> Work:
    """From the file to JSON."""
    estimator = hrpose.load(name, detector="none", device=device)
    return lambda: estimator(file, boxes).to_json()


def theirs(name: str, file: Path, boxes: NDArray[np.float64], folder: Path) -> Work:
    """From the file to JSON."""
    report = export_rtmlib(weights.find(name), folder / "rtmlib.onnx")
    model, corners = in_rtmlib(report.path, report.input_wh), xywh_to_xyxy(boxes)

    def work() -> str:
        keypoints, scores = model(cv2.imread(str(file)), corners)
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


def accuracy(name: str, annotations: Path, images: Path) -> Iterator[Fact]:
    """The AP with the boxes of the annotations, without flip test, for all labeled persons."""
    truth = read_truth(annotations)
    table, chosen = truth.table, np.flatnonzero(truth.counted)
    estimator = hrpose.load(name, detector="none", device="cpu", exact=True)
    metadata = estimator.metadata
    found: dict[str, list[NDArray[np.float64]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        drawn, own = Path(temporary) / "drawn.onnx", Path(temporary) / "own.onnx"
        export_rtmlib(weights.find(name), drawn)
        model = onnx.load(drawn)
        del model.graph.output[:]
        shape = ["n", metadata.channels, *metadata.heatmap_wh[::-1]]
        float32 = onnx.TensorProto.FLOAT
        heatmaps = onnx.helper.make_tensor_value_info("model_heatmaps", float32, shape)
        model.graph.output.append(heatmaps)
        onnx.save(model, own)
        readers = {
            "rtmlib, exported file": in_rtmlib(drawn, metadata.input_wh),
            "rtmlib, the model's own heatmaps": in_rtmlib(own, metadata.input_wh),
        }
        for person in chosen:
            file, box = images / table.image_name(person), table.boxes[person]
            pose = estimator(file, boxes=[box]).keypoints[0].astype(np.float64)
            found.setdefault("hrpose", []).append(pose)
            for reader, run in readers.items():
                keypoints, scores = run(cv2.imread(str(file)), [xywh_to_xyxy(box)])
                pose = np.concatenate([keypoints[0], scores[0][:, None]], axis=1)
                found.setdefault(reader, []).append(pose)
    for codec in (*(Codec(each, metadata.codec.sigma) for each in CODECS), None):
        for person in chosen:
            crop = Crop.from_box(table.boxes[person], metadata.input_wh)
            points = transform(table.keypoints[person, :, :2], crop.matrix)
            points = points.clip(0, np.array(metadata.input_wh) - 1)
            pose = labels_by_rtmlib(codec, points, metadata, crop)
            what = "labels as exported" if codec is None else f"labels as {codec.name}"
            found.setdefault(f"rtmlib, {what}", []).append(pose)
    for what, poses in found.items():
        keypoints = np.array(poses)
        scores = rescore(keypoints, np.ones(len(keypoints)))
        ids = table.image_ids[table.image_index[chosen]]
        results = to_results(ids, keypoints, scores, table.category_id)
        scored = evaluate_keypoints(truth.annotations, results, table.skeleton.sigmas)
        yield Fact(f"AP of {len(chosen)} persons: {what}", f"{scored.AP:.4f}")


def labels_by_rtmlib(
    codec: Codec | None, points: NDArray[np.float64], metadata: Metadata, crop: Crop
) -> NDArray[np.float64]:
    """Labels (k, 2) in the crop, as perfect heatmaps of the `codec`, or as drawn in exported files
    for None, read by rtmlib: (k, 3) in the image.
    """
    from rtmlib import ViTPose

    if codec is None:
        # The heatmaps of a codec with the lengths that the file is drawn with.
        wide, high = (side // 2 for side in metadata.input_wh)
        pixels = points * (np.array([wide, high]) - 1) / metadata.input_wh
        heatmaps, _ = encode(pixels, np.ones(len(points)), (wide, high), 1.5, (1, 1), exact=True)
    else:
        heatmaps, _ = codec.encode(points, np.ones(len(points)), metadata.input_wh)
    center, size = np.array(crop.center), np.array(crop.size)
    keypoints, _ = ViTPose.postprocess(None, [heatmaps[None].copy()], center, size)
    return np.concatenate([keypoints[0], np.ones((len(points), 1))], axis=1)


def main() -> None:
    """Print the rows, or the memory of one of both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", default="w16-small")
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--memory", choices=("ours", "theirs"))
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--images", type=Path)
    given = parser.parse_args()
    if given.annotations is not None:
        table = Table()
        for fact in accuracy(given.weights, given.annotations, given.images):
            table.run(fact)
        return
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
