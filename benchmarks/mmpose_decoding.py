"""Decoding by hrpose and by MMPose 1.3.2, on the same heatmaps of real persons.

    pip download --no-deps mmpose==1.3.2
    python -m zipfile -e mmpose-1.3.2-py2.py3-none-any.whl mmpose-1.3.2
    python -m benchmarks.mmpose_decoding val.json images mmpose-1.3.2 [--weights W]

The table of docs/guide/coming-from.md. Heatmaps are those in ground-truth boxes with flip test.
Only the functions of MMPose that decode are imported, so none of its dependencies is needed.
"""

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hrpose
from hrpose import codec
from hrpose.data.coco import read_annotations
from hrpose.data.images import ImageFiles
from hrpose.evaluation.evaluate import Evaluator
from hrpose.evaluation.predictions import Predictions, ground_truth
from hrpose.geometry import Crop, transform, warp

Heatmaps = NDArray[np.float32]
Points = NDArray[np.float64]


def mmpose_functions(folder: Path) -> Any:
    """The module of MMPose's refinements, without running its packages' own imports."""
    for name in ("mmpose", "mmpose.codecs", "mmpose.codecs.utils"):
        package = ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    return import_module("mmpose.codecs.utils.refinement"), import_module(
        "mmpose.codecs.utils.post_processing"
    )


def mmpose_decoders(folder: Path, sigma: float) -> dict[str, Callable[[Heatmaps], Points]]:
    """MMPose's three ways from heatmaps (k, h, w) to points (k, 2) in heatmap pixels."""
    refinement, post_processing = mmpose_functions(folder)
    kernel = 2 * int(np.ceil(2.5 * sigma)) + 1  # 11 for sigma 2, 17 for 3, as in its configurations

    def decoder(name: str, *settings: int) -> Callable[[Heatmaps], Points]:
        def decode(heatmaps: Heatmaps) -> Points:
            points, _ = post_processing.get_heatmap_maximum(heatmaps)
            refined = getattr(refinement, name)(points[None], heatmaps.copy(), *settings)
            return np.asarray(refined[0], np.float64)

        return decode

    return {
        "quarter offset": decoder("refine_keypoints"),
        "DARK": decoder("refine_keypoints_dark", kernel),
        "UDP": decoder("refine_keypoints_dark_udp", kernel),
    }


def main() -> None:
    """Read the command line, decode and print the table."""
    parser = argparse.ArgumentParser(description="Decoding compared with MMPose.")
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("mmpose", type=Path, help="the unpacked wheel")
    parser.add_argument("--weights", default="w32-small")
    given = parser.parse_args()
    estimator = hrpose.load(given.weights, flip_test=True, precision="fp32")
    metadata, annotations = estimator.metadata, read_annotations(given.annotations)
    table, source = annotations.persons(), ImageFiles(given.images)
    crops = [metadata.crop(box) for box in table.boxes]
    pixels = [warp(source.read(table.image_name(i)), crop) for i, crop in enumerate(crops)]
    heatmaps = estimator.heatmaps(np.stack(pixels))
    peaks = heatmaps.max(axis=(-2, -1))
    labeled = table.keypoints[..., 2] > 0
    evaluator = Evaluator.choose(annotations, table, "AP")

    def ap(points: Points) -> float:
        """AP of points (n, k, 2) in heatmap pixels."""
        keypoints = to_image(points, crops, estimator)
        scores = metadata.keypoint_scores(peaks, clip=False)
        rows = np.concatenate([keypoints, scores[..., None]], axis=-1)
        predictions = Predictions.of(metadata, ground_truth(table), rows)
        return evaluator.metrics(predictions)["AP"]

    sigma = metadata.codec.sigma
    taylor = np.asarray(codec.decode_taylor(heatmaps, sigma)[0], np.float64)
    quarter = np.asarray(codec.decode(heatmaps)[0], np.float64)
    print(f"{given.weights}: {len(table)} persons, {peaks.size} keypoints, sigma {sigma:g}")
    long = np.abs(taylor - np.round(quarter)).max(axis=-1) > 0.999
    print(f"steps at the limit of one heatmap pixel: {long.mean():.1%}")
    print("| decoding | AP | MMPose | median error | MMPose | median difference | most | > 1 px |")
    print("|---|---|---|---|---|---|---|---|")
    for name, decode in mmpose_decoders(given.mmpose, sigma).items():
        ours = quarter if name == "quarter offset" else taylor
        theirs = np.stack([decode(each) for each in heatmaps])
        places = [to_image(points, crops, estimator) for points in (ours, theirs)]
        away = np.linalg.norm(places[0] - places[1], axis=-1)
        errors = [
            np.median(np.linalg.norm(each - table.keypoints[..., :2], axis=-1)[labeled])
            for each in places
        ]
        print(
            f"| {name} | {ap(ours):.4f} | {ap(theirs):.4f} | {errors[0]:.2f} px | "
            f"{errors[1]:.2f} px | {np.median(away):.3f} px | {away.max():.1f} px | "
            f"{(away > 1).mean():.1%} |"
        )


def to_image(points: Points, crops: list[Crop], estimator: hrpose.PoseEstimator) -> Points:
    """Points (n, k, 2) in heatmap pixels as pixels of their images."""
    metadata = estimator.metadata
    width, height = metadata.heatmap_wh
    scaled = codec.scaled(points, metadata.codec.strides((width, height)))
    return np.stack(
        [transform(each, crop.inverse_matrix) for each, crop in zip(scaled, crops, strict=True)]
    )


if __name__ == "__main__":
    main()
