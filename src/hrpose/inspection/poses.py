"""What a model sees where people are labelled."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hrpose.data.persons import group_by_image
from hrpose.data.pictures import PictureSource
from hrpose.errors import UserError
from hrpose.inspection.labels import Labels
from hrpose.runtime.estimator import PoseEstimator
from hrpose.runtime.picture import Picture

Progress = Callable[[int, int], None]


def check_joints(estimator: PoseEstimator, labels: Labels) -> None:
    """Raises UserError where the model finds other joints than are labelled."""
    found = estimator.passport.skeleton.keypoints
    if labels.names != found:
        raise UserError(
            f"--weights: expected the keypoints of the annotations ({', '.join(labels.names)}), "
            f"found {', '.join(found)}"
        )


def usable(labels: Labels) -> NDArray[np.bool_]:
    """(n,): people whose box is inside their picture, at least in part."""
    size = labels.image_wh[labels.image_index]
    low, high = labels.boxes[:, :2], labels.boxes[:, :2] + labels.boxes[:, 2:]
    right = (labels.boxes[:, 2:] > 0) & (low < size) & (high > 0)
    inside: NDArray[np.bool_] = np.all(right, axis=1)
    return inside


def predicted(
    estimator: PoseEstimator,
    labels: Labels,
    source: PictureSource,
    people: NDArray[np.int64],
    progress: Progress,
) -> NDArray[np.float64]:
    """(n, k, 3): the pose that the model sees in each of the boxes `people`, NaN for the others
    and for those whose picture cannot be read.
    """
    poses = np.full((len(labels), len(labels.names), 3), np.nan)
    people = people[usable(labels)[people]]
    owners = [people[own] for own in group_by_image(labels.image_index[people]).values()]

    def pictures() -> Iterator[Picture]:
        for done, own in enumerate(owners, start=1):
            progress(done, len(owners))
            try:
                image = source.read(labels.file_names[int(labels.image_index[own[0]])])
                picture = Picture.of(image, labels.boxes[own])
            except UserError:
                continue
            yield replace(picture, key=own)

    for picture, found in estimator.stream(pictures()):
        poses[picture.key] = found.keypoints
    return poses
