"""`hrpose weights calibrate`: what makes numbers of weights honest, fitted on labeled persons.

The weights run in the labeled boxes; what is fitted is stored in the metadata of a copy:

- `calibration`: keypoint scores become the expected keypoint similarity;
- `covariance`: the 95 % ellipses of keypoints hold 95 % of the labels;
- `presence`: how probable it is that a keypoint is visible, hidden or absent. Only for labels in
  which every keypoint that can be placed has one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.covariance import moments, presence_features, transformed
from hrpose.data.images import ImageFiles
from hrpose.data.persons import PersonTable, group_by_image
from hrpose.errors import UserError
from hrpose.estimator import PoseEstimator
from hrpose.evaluation.predictions import Progress
from hrpose.geometry import Crop, transform, warp
from hrpose.io import prefetch
from hrpose.metadata import Metadata, check_weights, metadata_of, write_with_metadata
from hrpose.metrics.calibration import (
    MIN_ABSENT,
    Coverage,
    PresenceReport,
    coverage,
    fit_calibration,
    fit_covariance,
    fit_presence,
    presence_report,
)
from hrpose.metrics.oks import keypoint_similarities

# With fewer labeled keypoints scores are not calibrated.
MIN_CALIBRATION_KEYPOINTS = 100
# What can be fitted.
PARTS = ("scores", "covariance", "presence")


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """n persons with k keypoints each, as weights see them in their labeled boxes.

    `peaks` (n, k) are the heights of heatmaps, `moments` (n, k, 2, 2) their second moments and
    `errors` (n, k, 2) predicted less labeled places, in input pixels; `features` (n, k, 5) are
    those of presence. `visibility` (n, k) is
    COCO's: 0 without a label, 1 hidden, 2 visible. `similarities` (n, k) are the terms of the OKS,
    `images` (n,) the rows of their images, `areas` (n,) those of the persons in square pixels, and
    `matrices` (n, 2, 3) map crops to images.
    """

    peaks: NDArray[np.float32]
    moments: NDArray[np.float64]
    errors: NDArray[np.float64]
    features: NDArray[np.float64]
    visibility: NDArray[np.float64]
    similarities: NDArray[np.float64]
    images: NDArray[np.int64]
    areas: NDArray[np.float64]
    matrices: NDArray[np.float64]

    def presence(self, metadata: Metadata) -> PresenceReport | None:
        """How good the `metadata`'s presence is; None if it has none, or nothing to compare."""
        labeled = self.labeled
        if metadata.presence is None or labeled.all() or not labeled.any():
            return None
        return presence_report(metadata.presence(self.features), self.peaks, self.visibility)

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """(n, k) the keypoints with a label."""
        return np.asarray(self.visibility > 0, np.bool_)

    def select(self, chosen: Any) -> "Measured":
        """Some of the persons."""
        return Measured(*(getattr(self, name)[chosen] for name in self.__slots__))

    def coverage(
        self, metadata: Metadata, chosen: NDArray[np.bool_] | None = None
    ) -> Coverage | None:
        """That of the `metadata`'s covariance, over the labels that are `chosen` (n, k)."""
        fit = metadata.covariance
        if fit is None:
            return None
        spread = transformed(fit(self.moments, self.peaks), self.matrices)
        errors = np.einsum("nij,nkj->nki", self.matrices[:, :, :2], self.errors)
        labeled = self.labeled if chosen is None else self.labeled & chosen
        return coverage(fit, spread, errors, labeled, self.images)


def measure(
    estimator: PoseEstimator,
    table: PersonTable,
    source: ImageFiles,
    progress: Progress | None = None,
) -> Measured:
    """Run the weights in the labeled boxes of all persons.

    Raises UserError where an image cannot be read, and where the keypoints are others.
    """
    metadata = estimator.metadata
    names, own = table.skeleton.keypoints, metadata.skeleton.keypoints
    if names != own:
        raise UserError(
            f"expected annotations with the keypoints of the weights ({', '.join(own)}), found "
            f"{', '.join(names)}",
            code="keypoints-differ",
        )
    columns: list[tuple[Any, ...]] = []
    waiting: list[tuple[int, Crop, NDArray[np.uint8]]] = []
    width, height = metadata.heatmap_wh
    strides = metadata.codec.strides((width, height))

    def run() -> None:
        heatmaps = estimator.heatmaps(np.stack([pixels for _, _, pixels in waiting]))
        points, peaks = estimator.decode(heatmaps)
        shapes = moments(heatmaps, points, strides)
        rows = [row for row, _, _ in waiting]
        inverse = np.stack([crop.inverse_matrix for _, crop, _ in waiting])
        labels = table.keypoints[rows].astype(np.float64)
        to_crop = np.stack([crop.matrix for _, crop, _ in waiting])
        columns.append(
            (
                peaks,
                shapes,
                points - transform(labels[..., :2], to_crop),
                presence_features(peaks, shapes, points, metadata.input_wh),
                labels[..., 2],
                keypoint_similarities(
                    transform(points, inverse), labels, table.areas[rows], table.skeleton.sigmas
                ),
                table.image_index[rows],
                table.areas[rows],
                inverse,
            )
        )
        waiting.clear()

    labeled = np.flatnonzero((table.keypoints[..., 2] > 0).any(axis=1))
    groups = [
        labeled[rows].tolist() for rows in group_by_image(table.image_index[labeled]).values()
    ]
    images = prefetch(lambda group: source.read(table.image_name(group[0])), groups)
    for done, (group, image) in enumerate(zip(groups, images, strict=True), start=1):
        for row in group:
            crop = metadata.crop(table.boxes[row])
            waiting.append((row, crop, warp(image, crop)))
            if len(waiting) == estimator.batch_size:
                run()
        if progress is not None:
            progress(done, len(groups))
    if waiting:
        run()
    if not columns:
        raise UserError(
            "expected persons with labeled keypoints, found none", code="labels-missing"
        )
    return Measured(*(np.concatenate(parts) for parts in zip(*columns, strict=True)))


def calibrated(
    metadata: Metadata, measured: Measured, parts: Iterable[str] = PARTS
) -> tuple[Metadata, list[str]]:
    """The metadata with the `parts` that can be fitted, and for each other one the reason why not.

    A calibration of the scores replaces the one before, as the peaks do not have it.
    """
    reasons = []
    labels, persons = int(measured.labeled.sum()), len(measured.peaks)
    if "scores" in parts:
        if labels >= MIN_CALIBRATION_KEYPOINTS:
            scores = np.clip(measured.peaks[measured.labeled], 0, 1).astype(np.float64)
            found = fit_calibration(scores, measured.similarities[measured.labeled])
            metadata = replace(metadata, calibration=found)
        else:
            reasons.append(
                f"scores: expected at least {MIN_CALIBRATION_KEYPOINTS} labeled keypoints, found "
                f"{labels}"
            )
    if "covariance" in parts:
        pairs = metadata.skeleton.flip_pairs
        fit = fit_covariance(
            measured.peaks, measured.moments, measured.errors, measured.labeled, pairs
        )
        if fit is None:
            reasons.append(
                "covariance: expected at least 500 labeled keypoints of 40 persons, found "
                f"{labels} of {persons}"
            )
        else:
            metadata = replace(metadata, covariance=fit)
    if "presence" in parts:
        present = fit_presence(measured.features, measured.visibility)
        if present is None:
            reasons.append(
                f"presence: expected at least {MIN_ABSENT} keypoints with and without a label, "
                f"found {labels} and {measured.visibility.size - labels}"
            )
        else:
            metadata = replace(metadata, presence=present)
    return metadata, reasons


def check_copy(weights: Path, out: Path) -> None:
    """Raises UserError where `out` cannot be a copy of `weights`, before any work is done."""
    if weights.suffix not in (".onnx", ".safetensors") or out.suffix != weights.suffix:
        raise UserError(
            f"{out}: a calibration is stored in a copy of .onnx or .safetensors weights, with the "
            f"same suffix; found weights {weights.name}",
            code="option-invalid",
        )
    if out.resolve() == weights.resolve():
        raise UserError(
            f"{out}: would be overwritten; choose another name for the copy",
            code="overwrite-refused",
        )


def store(weights: Path, metadata: Metadata, out: Path) -> None:
    """Write a copy of `weights` (.onnx or .safetensors) with this `metadata` to `out`.

    Nothing else changes. Raises UserError where the files are of other kinds or cannot be read or
    written.
    """
    check_copy(weights, out)
    check_weights(weights)
    metadata_of(weights, Metadata)
    write_with_metadata(out, weights.read_bytes(), metadata)
