"""Evaluation at the size of COCO val2017, and tables at the size of train2017."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import plain
from benchmarks.rows import Fact, Row, timed
from hrpose.data.coco import load_persons
from hrpose.metrics import oks_nms_per_image
from hrpose.metrics.coco import evaluate_keypoints, select_results, write_results
from hrpose.skeletons import COCO_17

IMAGES, PERSONS, DETECTIONS = 2346, 6352, 98_500
TRAIN_IMAGES, TRAIN_PERSONS, WORKERS = 56_599, 149_813, 8
SIGMAS = np.asarray(COCO_17.sigmas)


def persons(entries: int, count: int, seed: int) -> dict[str, Any]:
    """A COCO document of random persons."""
    rng = np.random.default_rng(seed)
    corners, sizes = rng.uniform(0, 300, (count, 2)), rng.uniform(40, 250, (count, 2))
    points = corners[:, None] + rng.uniform(size=(count, 17, 2)) * sizes[:, None]
    visible = rng.choice([0, 1, 2], (count, 17, 1), p=[0.3, 0.1, 0.6])
    visible[:, 0] = 2
    keypoints = np.concatenate([points.round(), visible], axis=2).reshape(count, -1).astype(int)
    images = rng.integers(1, entries + 1, count)
    category = {
        "id": 1,
        "name": "person",
        "keypoints": list(COCO_17.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in COCO_17.limbs],
    }
    annotations = [
        {
            "id": i + 1,
            "image_id": int(images[i]),
            "category_id": 1,
            "iscrowd": 0,
            "area": float(sizes[i].prod() * 0.53),
            "bbox": [*corners[i].tolist(), *sizes[i].tolist()],
            "keypoints": keypoints[i].tolist(),
            "num_keypoints": int((visible[i] > 0).sum()),
        }
        for i in range(count)
    ]
    listed = [
        {"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 640}
        for i in range(1, entries + 1)
    ]
    return {"images": listed, "annotations": annotations, "categories": [category]}


def rows() -> Iterator[Row | Fact]:
    """NMS, the whole evaluation, and the table of persons."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _evaluation(Path(folder))
        yield from _table(Path(folder))


def _evaluation(folder: Path) -> Iterator[Row]:
    document = persons(IMAGES, PERSONS, seed=1)
    truth_file = folder / "truth.json"
    truth_file.write_text(json.dumps(document))
    rng = np.random.default_rng(2)
    # Each detection is near a labeled person of its image.
    near = rng.integers(0, PERSONS, DETECTIONS)
    labels = np.array([a["keypoints"] for a in document["annotations"]], float)
    labels = labels.reshape(-1, 17, 3)[near]
    spread = rng.choice([2.0, 10.0, 60.0], (DETECTIONS, 1, 1))
    points = labels[..., :2] + rng.normal(size=(DETECTIONS, 17, 2)) * spread
    keypoints = np.concatenate([points, rng.uniform(size=(DETECTIONS, 17, 1))], axis=2)
    images = np.array([a["image_id"] for a in document["annotations"]])[near]
    areas = np.array([a["area"] for a in document["annotations"]])[near] * 2
    scores = rng.uniform(size=DETECTIONS)
    yield Row(
        f"OKS-NMS at val2017 size ({DETECTIONS:,} detections)",
        "one pair at a time",
        lambda: oks_nms_per_image(images, keypoints, areas, scores, 0.9),
        lambda: plain.oks_nms_per_image(images, keypoints, areas, scores, 0.9, SIGMAS),
        20,
        rounds=1,
    )
    ours_file, plain_file = folder / "ours.json", folder / "plain.json"

    def ours() -> object:
        load_persons(truth_file)
        results = select_results(images, keypoints, scores, areas)
        write_results(ours_file, results)
        return evaluate_keypoints(truth_file, results)

    def theirs() -> object:
        return plain.evaluate(truth_file, plain_file, images, keypoints, scores, areas, SIGMAS)

    yield Row(
        "load, rescore, OKS-NMS, write, AP at val2017 size",
        "list of dicts, one pair at a time, pycocotools",
        ours,
        theirs,
        10,
        rounds=1,
    )


def _table(folder: Path) -> Iterator[Fact]:
    path = folder / "train.json"
    path.write_text(json.dumps(persons(TRAIN_IMAGES, TRAIN_PERSONS, seed=3)))
    with timed(wall=False) as seconds:
        table = load_persons(path)
    yield Fact(
        f"loading a table of {TRAIN_PERSONS:,} people", f"{seconds[0]:.1f} s of CPU", "under 5 s"
    )
    del table

    def columns() -> Callable[[], object]:
        table = load_persons(path)
        return lambda: sum(float(table.boxes[i].sum()) for i in range(len(table)))

    def dicts() -> Callable[[], object]:
        entries = plain.person_dicts(path)
        return lambda: sum(entry["box"][0] for entry in entries)

    ours, theirs = (_shared_memory(make) for make in (columns, dicts))
    yield Fact(
        f"its memory with {WORKERS} workers that read all of it",
        f"{ours / 1e6:.0f} MB; as a list of dicts {theirs / 1e6:.0f} MB: {theirs / ours:.1f}x",
        "5x less",
    )


def _shared_memory(make: Callable[[], Callable[[], object]]) -> int:
    """Bytes (proportional set size) of data in a process and its forked workers, beyond those
    of the processes without it.
    """
    return _with_workers(make) - _with_workers(lambda: lambda: None)


def _with_workers(make: Callable[[], Callable[[], object]]) -> int:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        work = make()
        total = 0
        gates = [(os.pipe(), os.pipe()) for _ in range(WORKERS)]
        workers = []
        for ready, go in gates:
            if (worker := os.fork()) == 0:
                work()
                os.write(ready[1], b".")
                os.read(go[0], 1)
                os._exit(0)
            workers.append(worker)
        for ready, _ in gates:
            os.read(ready[0], 1)
        total = sum(_proportional(pid) for pid in (os.getpid(), *workers))
        for (_, go), worker in zip(gates, workers, strict=True):
            os.write(go[1], b".")
            os.waitpid(worker, 0)
        os.write(writer, str(total).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        total = int(pipe.read())
    os.waitpid(child, 0)
    return total


def _proportional(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Pss: this row needs Linux")
