"""Targets, decoding, and OKS-NMS of one crowded image."""

from collections.abc import Iterator

import numpy as np

from benchmarks import plain
from benchmarks.rows import Row
from hrpose.codec import Codec
from hrpose.geometry import Crop, transform
from hrpose.metrics import oks_nms
from hrpose.skeletons import COCO_17


def rows() -> Iterator[Row]:
    """The inputs are made outside the timed part."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, (48, 64), (32, 17, 2)) * 4
    heatmaps = rng.uniform(size=(32, 17, 64, 48)).astype(np.float32)
    visible = np.ones((32, 17))
    crops = [
        Crop.from_box((*rng.uniform(0, 300, 2), *rng.uniform(60, 300, 2)), (192, 256))
        for _ in range(32)
    ]

    def decode(codec: Codec) -> object:
        found, _ = codec.decode(heatmaps)
        return transform(found, np.stack([crop.inverse_matrix for crop in crops]))

    def plain_decode() -> object:
        return plain.to_image(plain.decode(heatmaps), crops)

    for name in ("gaussian", "dark"):
        codec = Codec(name)
        wanted = 6 if name == "gaussian" else None
        yield Row(
            f"targets, batch of 32, {name}",
            "one person, one keypoint at a time",
            lambda codec=codec: codec.encode(points, visible, (192, 256)),
            lambda: plain.targets(points / 4, (48, 64), 2),
            wanted,
            per=32,
        )
    for name in ("gaussian", "dark"):
        codec = Codec(name)
        yield Row(
            f"decoding to image pixels, batch of 32, {name}",
            "one person, one keypoint at a time, quarter offset",
            lambda codec=codec: decode(codec),
            plain_decode,
            5 if name == "gaussian" else None,
            per=32,
        )
    # A crowded image: 40 detections around 8 people.
    persons = rng.uniform(0, 600, (8, 17, 2))
    poses = np.repeat(persons, 5, axis=0) + rng.normal(0, 4, (40, 17, 2))
    keypoints = np.concatenate([poses, np.ones((40, 17, 1))], axis=-1)
    areas, scores = rng.uniform(2e4, 4e4, 40), rng.uniform(size=40)
    sigmas = np.asarray(COCO_17.sigmas)
    yield Row(
        "OKS-NMS, 40 detections in an image",
        "one pair at a time",
        lambda: oks_nms(keypoints, areas, scores, 0.9),
        lambda: plain.oks_nms(keypoints, areas, scores, 0.9, sigmas),
    )
