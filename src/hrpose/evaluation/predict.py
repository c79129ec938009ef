"""Poses for all the people of a data set."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.persons import PersonTable
from hrpose.data.pictures import PictureSource
from hrpose.errors import UserError
from hrpose.evaluation.people import People
from hrpose.runtime.estimator import PoseEstimator
from hrpose.runtime.picture import Picture

Progress = Callable[[int, int], None]
# Rows of pictures, each with the rows of its people where these are known beforehand.
Groups = Sequence[tuple[int, Any]]


def predict(
    estimator: PoseEstimator,
    table: PersonTable,
    people: People | None,
    source: PictureSource,
    progress: Progress | None,
) -> tuple[People, NDArray[np.float32]]:
    """People, in the given order or as found, and a pose (n, k, 3) with joint scores for each.

    Without `people` the estimator's detector looks at every picture of the table. `progress` is
    told how many of how many pictures are done.
    """
    groups: Groups = (
        [(row, None) for row in range(len(table.image_ids))]
        if people is None
        else people.by_picture()
    )
    waiting: deque[tuple[int, NDArray[np.float64]]] = deque()

    def pictures() -> Iterator[Picture]:
        for row, members in groups:
            name = table.file_names[row].decode()
            image = source.read(name)
            if people is not None:
                picture = Picture(image, people.boxes[members], people.scores[members])
            else:
                picture = _searched(estimator, image, name)
            waiting.append((row, picture.box_scores))
            yield picture

    rows, scores = [np.zeros(0, np.int32)], [np.zeros(0)]
    boxes, keypoints = [np.zeros((0, 4))], [np.zeros((0, len(table.skeleton), 3), np.float32)]
    for done, (_, poses) in enumerate(estimator.stream(pictures()), start=1):
        row, box_scores = waiting.popleft()
        rows.append(np.full(len(poses), row, np.int32))
        scores.append(box_scores)
        boxes.append(poses.boxes.astype(np.float64))
        keypoints.append(poses.keypoints)
        if progress is not None:
            progress(done, len(groups))
    found = People(np.concatenate(rows), np.concatenate(boxes), np.concatenate(scores))
    every = np.concatenate(keypoints)
    if people is not None:
        order = np.argsort(np.concatenate([np.zeros(0, np.int64), *(m for _, m in groups)]))
        found = People(found.picture[order], found.boxes[order], found.scores[order])
        every = every[order]
    return found, every


def _searched(estimator: PoseEstimator, image: NDArray[np.uint8], name: str) -> Picture:
    try:
        return estimator.picture(image)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
