"""`python -m benchmarks.mediapipe_pose val.json images MODULES`: MediaPipe's pose in Chromium.

MODULES is the folder `node_modules` with the library and with the package that carries the models:

    npm install @mediapipe/tasks-vision@1.1.0 @mediapipe/pose@0.5.1675469404
    pip install --no-deps mediapipe flatbuffers

Both are Apache-2.0. The library wants to read from a model how its input is normalized, which the
models in the package do not say; of the Python package, only the schemas are used to add it.

Both get the same crops: each labeled person's box, 1.25 times as large, cut at the image's edges.
MediaPipe finds the person in it first, so hrpose is measured with the box and, with its own
detector, without; of several poses the one with the best score counts. Accuracy is that of the 12
keypoints that both have, shoulders to ankles: AP by COCO's OKS with its sigmas, and PCK, where a
keypoint that is not found is wrong. Times are of one person after another, from decoded pixels to
keypoints, on the CPU; CPU time counts all processes of the browser. Needs Playwright and Chromium.
"""

import argparse
import importlib.util
import io
import json
import os
import statistics
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import hrpose
from hrpose.image import read_image
from hrpose.metrics.coco import evaluate_keypoints, to_results
from hrpose.metrics.pck import distances
from hrpose.skeletons import COCO_17

SHARED = slice(5, 17)  # of COCO's keypoints
# The same of MediaPipe's 33.
LANDMARKS = (11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
MARGIN = 1.25
VARIANTS = ("lite", "full", "heavy")
LOAD = """async () => {
    const {FilesetResolver, PoseLandmarker} = await import('/tasks-vision/vision_bundle.mjs');
    const files = await FilesetResolver.forVisionTasks('/tasks-vision/wasm');
    globalThis.pose = await PoseLandmarker.createFromOptions(files, {
        baseOptions: {modelAssetPath: '/model.task', delegate: 'CPU'},
        runningMode: 'IMAGE',
    });
}"""
RUN = """async (count) => {
    const answers = [];
    for (let i = 0; i < count; i++) {
        const image = new Image();
        image.src = `/${i}.png`;
        await image.decode();
        const start = performance.now();
        const [points] = pose.detect(image).landmarks;
        const ms = performance.now() - start;
        answers.push({ms, points: points?.map(p => [p.x, p.y, p.visibility]) ?? null});
    }
    return answers;
}"""


@dataclass(frozen=True)
class Person:
    """A labeled person, cut out: `crop` (h, w, 3) RGB, whose first pixel is `corner` (x, y) of the
    image; `box` [x, y, w, h] in its pixels, `label` (12, 3) in those of the image.
    """

    annotation: dict[str, Any]
    crop: NDArray[np.uint8]
    corner: NDArray[np.float64]
    label: NDArray[np.float64]
    box: NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Keypoints (12, 3) of each person in pixels of the image, None where none was found.

    `ms` are the milliseconds of each, `cpu` those of CPU time on average.
    """

    keypoints: list[NDArray[np.float64] | None]
    ms: list[float]
    cpu: float


def persons_of(labels: dict[str, Any], images: Path) -> Iterator[Person]:
    """The persons with a label of one of the 12 keypoints."""
    names = {entry["id"]: entry["file_name"] for entry in labels["images"]}
    for annotation in labels["annotations"]:
        label = np.reshape(annotation["keypoints"], (-1, 3)).astype(np.float64)[SHARED]
        if annotation.get("iscrowd") or not label[:, 2].any():
            continue
        image = read_image(images / names[annotation["image_id"]])
        x, y, w, h = annotation["bbox"]
        grown = np.array([w, h]) * (MARGIN - 1) / 2
        low = np.floor(np.maximum(np.array([x, y]) - grown, 0)).astype(int)
        high = np.ceil(np.minimum(np.array([x + w, y + h]) + grown, image.shape[1::-1])).astype(int)
        crop = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
        box = np.array([x - low[0], y - low[1], w, h])
        yield Person(annotation, crop, low.astype(np.float64), label, box)


def bundle(models: Path, variant: str) -> bytes:
    """The two models of a variant as the library reads them, from the package's folder."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        detector = (models / "pose_solution_packed_assets.data").read_bytes()
        archive.writestr("pose_detector.tflite", with_range(detector, -1, 1))
        landmarks = (models / f"pose_landmark_{variant}.tflite").read_bytes()
        archive.writestr("pose_landmarks_detector.tflite", with_range(landmarks, 0, 1))
    return written.getvalue()


def with_range(model: bytes, low: float, high: float) -> bytes:
    """A TFLite model that says in its metadata that pixels are scaled to `low` to `high`."""
    import flatbuffers  # type: ignore[import-not-found, unused-ignore]

    fields, tflite = schema("metadata_schema_py_generated"), schema("schema_py_generated")
    scale = fields.NormalizationOptionsT()
    scale.std = [255 / (high - low)]
    scale.mean = [-low * scale.std[0]]
    unit = fields.ProcessUnitT()
    unit.optionsType = fields.ProcessUnitOptions.NormalizationOptions
    unit.options = scale
    content = fields.ContentT()
    content.contentPropertiesType = fields.ContentProperties.ImageProperties
    content.contentProperties = fields.ImagePropertiesT()
    content.contentProperties.colorSpace = fields.ColorSpaceType.RGB
    image, graph, metadata = (
        fields.TensorMetadataT(),
        fields.SubGraphMetadataT(),
        fields.ModelMetadataT(),
    )
    image.name, image.processUnits, image.content = "image", [unit], content
    graph.inputTensorMetadata = [image]
    metadata.subgraphMetadata = [graph]
    builder = flatbuffers.Builder(0)
    builder.Finish(metadata.Pack(builder), b"M001")

    changed = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(model, 0))
    buffer, entry = tflite.BufferT(), tflite.MetadataT()
    buffer.data = list(builder.Output())
    entry.name, entry.buffer = "TFLITE_METADATA", len(changed.buffers)
    changed.buffers.append(buffer)
    changed.metadata = [entry]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(changed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def schema(name: str) -> Any:
    """A schema of the package mediapipe, without the package, which would load much more."""
    package = importlib.util.find_spec("mediapipe")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "tasks" / "metadata" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def files_at(folder: Path) -> Iterator[str]:
    """The address of a server of these files, and of an empty page."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (folder / "index.html").write_text("<!doctype html>", encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def in_mediapipe(persons: list[Person], modules: Path, variant: str, chromium: str) -> Found:
    """MediaPipe's keypoints, in a browser without a window."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as folder,
        files_at(Path(folder)) as url,
        sync_playwright() as playwright,
    ):
        Path(folder, "tasks-vision").symlink_to((modules / "@mediapipe/tasks-vision").absolute())
        Path(folder, "model.task").write_bytes(bundle(modules / "@mediapipe/pose", variant))
        for i, person in enumerate(persons):
            cv2.imwrite(f"{folder}/{i}.png", cv2.cvtColor(person.crop, cv2.COLOR_RGB2BGR))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(0)
        # The library sends a log to Google.
        page.route("https://**", lambda route: route.abort())
        page.goto(url)
        page.evaluate(LOAD)
        page.evaluate(RUN, 1)  # compiles
        before = cpu_of_children()
        answers = page.evaluate(RUN, len(persons))
        cpu = cpu_of_children() - before
        browser.close()
    keypoints = [
        None if entry["points"] is None else _in_image(person, entry["points"])
        for person, entry in zip(persons, answers, strict=True)
    ]
    return Found(keypoints, [entry["ms"] for entry in answers], cpu * 1000 / len(persons))


def _in_image(person: Person, landmarks: list[list[float]]) -> NDArray[np.float64]:
    """MediaPipe's landmarks, in parts of the crop's width and height, in pixels of the image."""
    points = np.array(landmarks)[list(LANDMARKS)]
    height, width = person.crop.shape[:2]
    points[:, :2] = points[:, :2] * (width, height) - 0.5 + person.corner
    return points


def in_hrpose(persons: list[Person], weights: str, device: str, with_box: bool) -> Found:
    """Keypoints of hrpose, one person after another; without the box, of the best pose it finds."""
    estimator = hrpose.load(weights, detector="none" if with_box else "builtin", device=device)
    estimator(persons[0].crop)
    keypoints: list[NDArray[np.float64] | None] = []
    ms: list[float] = []
    cpu = time.process_time()
    for person in persons:
        start = time.perf_counter()
        poses = estimator(person.crop, person.box[None] if with_box else None)
        ms.append((time.perf_counter() - start) * 1000)
        if not len(poses):
            keypoints.append(None)
            continue
        points = poses.keypoints[int(poses.scores.argmax()), SHARED].astype(np.float64)
        points[:, :2] += person.corner
        keypoints.append(points)
    return Found(keypoints, ms, (time.process_time() - cpu) * 1000 / len(persons))


def cpu_of_children() -> float:
    """Seconds of CPU time of all processes that this one has started, and theirs."""
    parents, seconds = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(entry.parent.name)
        parents[pid] = int(fields[1])
        seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ours(pid: int) -> bool:
        parent = parents.get(pid, 0)
        return parent == os.getpid() or (parent > 1 and ours(parent))

    return sum(spent for pid, spent in seconds.items() if ours(pid))


def row(name: str, persons: list[Person], found: Found, labels: dict[str, Any]) -> str:
    """A line of the table."""
    pairs = list(zip(persons, found.keypoints, strict=True))
    kept = [(person, points) for person, points in pairs if points is not None]
    results = to_results(
        [person.annotation["image_id"] for person, _ in kept],
        np.stack([points for _, points in kept]),
        [float(points[:, 2].mean()) for _, points in kept],
    )
    AP = evaluate_keypoints(_shared(labels, persons), results, COCO_17.sigmas[SHARED])
    nowhere = np.full((12, 3), 1e9)
    pck = distances(
        [nowhere if points is None else points for _, points in pairs],
        [person.label for person in persons],
        [person.annotation["bbox"] for person in persons],
    )
    return (
        f"| {name} | {len(kept)} of {len(pairs)} | {AP.AP:.3f} | {AP.AP50:.3f} | {AP.APM:.3f} | "
        f"{AP.APL:.3f} | {pck.pck:.1f} | {pck.pck_strict:.1f} | "
        f"{statistics.median(found.ms):.1f} | {found.cpu:.1f} |"
    )


def _shared(labels: dict[str, Any], persons: list[Person]) -> dict[str, Any]:
    """The labels of the persons, with the 12 keypoints alone."""
    (category,) = labels["categories"]
    limbs = [[a - 5, b - 5] for a, b in category.get("skeleton", []) if min(a, b) > 5]
    return {
        "images": labels["images"],
        "categories": [{**category, "keypoints": category["keypoints"][SHARED], "skeleton": limbs}],
        "annotations": [
            {
                **person.annotation,
                "keypoints": person.label.ravel().tolist(),
                "num_keypoints": int((person.label[:, 2] > 0).sum()),
            }
            for person in persons
        ],
    }


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("modules", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--device", default="cpu", help="hrpose's")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--weights", nargs="*", default=["w16-small", "w32-small"])
    parser.add_argument("--persons", type=int, help="the first ones only")
    given = parser.parse_args()
    labels = json.loads(given.annotations.read_text(encoding="utf-8"))
    persons = list(persons_of(labels, given.images))[: given.persons]
    print("| what | found | AP | AP50 | APM | APL | PCK@0.2 | PCK@0.1 | ms | CPU ms |")
    print("|" + "---|" * 10)
    for variant in given.variants:
        found = in_mediapipe(persons, given.modules, variant, given.chromium)
        print(row(f"MediaPipe {variant}", persons, found, labels), flush=True)
    for weights in given.weights:
        for with_box in (False, True):
            found = in_hrpose(persons, weights, given.device, with_box)
            name = f"hrpose {weights}, {'in the box' if with_box else 'builtin detector'}"
            print(row(name, persons, found, labels), flush=True)


if __name__ == "__main__":
    main()
