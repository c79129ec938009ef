"""Results of `hrpose predict` with walkers of a known truth, for tests."""

from pathlib import Path

import numpy as np
from benchmarks.walkers import walk
from numpy.typing import NDArray

from hrpose.poses import Poses
from hrpose.predict import FORMATS
from hrpose.predict.record import Entry, Header, RecordWriter, write_files
from hrpose.skeletons import COCO_17

SIZE_WH = (1280, 480)


def truth(seconds: float = 4.0, rate: float = 30.0, height: float = 300.0) -> NDArray[np.float64]:
    """(t, 17, 2): a person who walks to the right, seen from the side."""
    rng = np.random.default_rng(0)
    return walk(rng, np.arange(round(seconds * rate)) / rate, height, yaw=np.pi / 2)


def poses(xy: NDArray[np.float64], sigma: float | None = 2.0) -> Poses:
    """One person with keypoints (17, 2), and `sigma` pixels of noise in each direction."""
    keypoints = np.concatenate([xy, np.full((17, 1), 0.9)], axis=1)[None].astype(np.float32)
    box = np.array([[*xy.min(axis=0), *np.ptp(xy, axis=0)]], np.float32)
    covariance = None
    if sigma is not None:
        covariance = np.tile(np.float32(sigma**2) * np.eye(2, dtype=np.float32), (1, 17, 1, 1))
    return Poses(keypoints, box, np.ones(1, np.float32), COCO_17, np.array([1]),
                 covariance=covariance)  # fmt: skip


def write_results(
    folder: Path,
    name: str = "walk",
    rate: float = 30.0,
    sigma: float | None = 2.0,
    xy: NDArray[np.float64] | None = None,
) -> dict[str, Path]:
    """Results of a clip: the record, COCO JSON, CSV and Parquet, by their suffixes."""
    header = Header("clip", COCO_17, 0.3, f"{name}.mp4", "test", width=SIZE_WH[0],
                    height=SIZE_WH[1], rate=rate, time_base="1/1000",
                    covariance=sigma is not None)  # fmt: skip
    writer = RecordWriter(folder / f"{name}.jsonl", header)
    for frame, points in enumerate(truth(rate=rate) if xy is None else xy):
        writer.add(Entry.of(f"{name}.mp4", frame + 1, SIZE_WH, poses(points, sigma),
                            frame=frame, time=frame / rate))  # fmt: skip
    writer.close(complete=True)
    paths = {kind: folder / f"{name}{FORMATS[kind].suffix}" for kind in ("coco", "csv", "parquet")}
    write_files(writer.path, paths)
    return {path.suffix: path for path in (writer.path, *paths.values())}
