"""Everything around the network against the golden vectors: NumPy here, PyTorch where it is given.

The tolerances are those of the vectors' README.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose import heatmap
from hrpose.geometry import Crop, transform, warp
from hrpose.metrics.coco import evaluate_keypoints
from hrpose.metrics.oks import oks_nms, soft_oks_nms
from hrpose.metrics.pckh import pckh
from hrpose.skeleton import COCO_17
from hrpose.verification.certificate import Check
from hrpose.verification.golden import Golden, picture

# What COCO's own evaluator gives for its example.
COCO_EXAMPLE = {
    "AP": 0.372,
    "AP50": 0.636,
    "AP75": 0.348,
    "APM": 0.384,
    "APL": 0.386,
    "AR": 0.514,
    "AR50": 0.734,
    "AR75": 0.504,
    "ARM": 0.508,
    "ARL": 0.522,
}


@dataclass(frozen=True, slots=True)
class Arrays:
    """A library of arrays: its name, and the ways from NumPy and back."""

    name: str
    to: Callable[[NDArray[Any]], Any]
    back: Callable[[Any], NDArray[Any]]


NUMPY = Arrays("numpy", np.array, np.asarray)


def difference(found: Any, expected: Any) -> float:
    """The greatest difference of two arrays; infinite where their shapes differ."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if a.shape != b.shape:
        return np.inf
    return float(np.abs(a - b).max(initial=0))


def check_crops(golden: Golden) -> Iterator[Check]:
    """Crops of boxes, with and without rotation, and the pictures cut out by them."""
    numbers = golden.arrays("pipeline")
    there, back, sizes, pixels = [], [], [], []
    for i, facts in enumerate(golden.facts("pipeline")["crops"]):
        crop = Crop.from_box(
            facts["box_xywh"], tuple(facts["input_wh"]), rotation_deg=facts["rotation_deg"]
        )
        there.append(difference(crop.matrix, numbers[f"crop{i}_matrix"]))
        back.append(difference(crop.inverse_matrix, numbers[f"crop{i}_inverse"]))
        recorded = [*numbers[f"crop{i}_center"], *numbers[f"crop{i}_size_px"]]
        sizes.append(difference([*crop.center, *crop.size], recorded))
        image = warp(picture(facts["picture_seed"], *facts["image_hw"]), crop)
        name = f"crop{i}_image"
        levels = golden.cut(name, "pipeline", image).astype(int) - numbers[name]
        pixels.append(float((np.abs(levels) > 2).mean()))
    yield Check("crops: centre and size", "numpy", max(sizes), 1e-3, "px")
    yield Check("crops: image to input", "numpy", max(there), 1e-4)
    yield Check("crops: input to image", "numpy", max(back), 1e-4)
    yield Check("warps: pixels off by over 2 levels", "opencv", max(pixels), 1e-3, "of all")


def check_heatmaps(golden: Golden, arrays: Arrays) -> Iterator[Check]:
    """Targets, decoding and the flip test."""
    numbers, on = golden.arrays("pipeline"), arrays.name
    for size, input_wh in (("256x192", (192, 256)), ("384x288", (288, 384))):
        joints, visible = (numbers[f"target_{size}_{part}"] for part in ("joints", "visible"))
        maps, weights = heatmap.encode(
            arrays.to(joints),
            arrays.to(visible),
            (input_wh[0] // 4, input_wh[1] // 4),
            heatmap.sigma_for(input_wh),
        )
        weighted = arrays.back(weights) * np.asarray(COCO_17.weights, np.float32)
        off = max(
            difference(arrays.back(maps), numbers[f"target_{size}_heatmaps"]),
            difference(weighted, numbers[f"target_{size}_weights"]),
        )
        yield Check(f"targets {size}", on, off, 1e-5)

    points, scores = heatmap.decode(arrays.to(numbers["decode_heatmaps"]))
    height, width = numbers["decode_heatmaps"].shape[-2:]
    places = zip(numbers["decode_center"], numbers["decode_size_px"], strict=True)
    matrices = [
        Crop(
            (float(center[0]), float(center[1])), (float(size[0]), float(size[1])), (width, height)
        ).inverse_matrix
        for center, size in places
    ]
    in_image = transform(arrays.back(points), np.stack(matrices))
    yield Check(
        "decoding: points in the image",
        on,
        difference(in_image, numbers["decode_image_xy"]),
        1e-3,
        "px",
    )
    found = difference(arrays.back(scores), numbers["decode_score"])
    yield Check("decoding: scores", on, found, 1e-5)
    merged = heatmap.merge_flipped(
        arrays.to(numbers["flip_direct"]),
        arrays.to(numbers["flip_mirrored"]),
        COCO_17.flip_permutation,
    )
    found = difference(arrays.back(merged), numbers["flip_merged"])
    yield Check("flip test", on, found, 1e-5)


def check_metrics(golden: Golden) -> Iterator[Check]:
    """Suppression of repeated poses, and PCKh."""
    numbers = golden.arrays("pipeline")
    for what, suppress, threshold, name in (
        ("OKS-NMS at 0.9", oks_nms, 0.9, "keep_at_0p9"),
        ("OKS-NMS at 0.5", oks_nms, 0.5, "keep_at_0p5"),
        ("soft OKS-NMS at 0.9", soft_oks_nms, 0.9, "soft_keep_at_0p9"),
    ):
        wrong = 0
        for group, expected in enumerate(golden.facts("pipeline")["nms"]):
            poses, areas, ranks = (
                numbers[f"nms{group}_{part}"] for part in ("keypoints", "area", "score")
            )
            wrong += suppress(poses, areas, ranks, threshold).tolist() != expected[name]
        yield Check(what, "numpy", wrong, 0, "groups")
    scores = pckh(*(numbers[f"pckh_{part}"] for part in ("pred", "gt", "missing", "headboxes")))
    expected = golden.facts("pipeline")["pckh"]
    named = scores.as_dict() | {"Mean": scores.mean, "Mean@0.1": scores.mean_at_01}
    found = difference([named[name] for name in expected], list(expected.values()))
    yield Check("PCKh", "numpy", found, 1e-6, "points")


def check_coco(golden: Golden) -> Iterator[Check]:
    """COCO's ten figures of COCO's own example. Needs faster-coco-eval."""
    scores = evaluate_keypoints(
        golden.facts("fakekeypoints100_ground_truth"), golden.facts("fakekeypoints100_results")
    )
    found = scores.as_dict()
    off = max(abs(found[name] - value) for name, value in COCO_EXAMPLE.items())
    # The example's figures are known to three digits.
    yield Check("COCO's ten figures, its example", "faster-coco-eval", off, 5e-4)
