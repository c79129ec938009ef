"""How ONNX detectors want their picture, and what their outputs mean, told by the outputs' shapes.

Known are the exports of YOLOX, of OpenMMLab's deploy tool (RTMDet and others), of the DETR family
(DETR, RF-DETR, RT-DETR, D-FINE) and of torchvision.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# Outputs and the input's (w, h) to boxes (n, 4) x1, y1, x2, y2 in input pixels and scores (n,).
Reader = Callable[[Sequence[Array], tuple[int, int]], tuple[Array, Array]]

# Mean and standard deviation of ImageNet, RGB in [0, 255].
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of detector.

    The picture enters as RGB, or BGR with `bgr`, less `mean` and over `std` (both for RGB in
    [0, 255]). With `stretched` it fills the input, else it keeps its proportions in the upper
    left corner, on grey. `overlapping`: one person comes with many boxes, to be thinned.
    """

    name: str
    read: Reader
    bgr: bool = False
    mean: tuple[float, float, float] = (0, 0, 0)
    std: tuple[float, float, float] = (1, 1, 1)
    stretched: bool = False
    overlapping: bool = False


def recognise(
    outputs: Sequence[Array], input_wh: tuple[int, int], *, asks_for_size: bool, plain: bool
) -> Layout | None:
    """The layout of a detector that gave these outputs for some picture; None where it is unknown.

    `asks_for_size`: it takes the picture's size as a second input. `plain` settles what outputs
    do not show: a detector of OpenMMLab takes pixels as they are (YOLOX), not normalised (RTMDet).
    """
    if len(outputs) == 1:
        return _grids(outputs[0].shape, input_wh)
    if len(outputs) == 2 and sorted(output.ndim for output in outputs) == [2, 3]:
        return _scored_boxes(outputs, plain)
    if len(outputs) == 2:
        return _queries(outputs)
    if len(outputs) == 3:
        return _final(outputs, asks_for_size)
    return None


def _grids(shape: tuple[int, ...], input_wh: tuple[int, int]) -> Layout | None:
    """(1, cells, 5 + classes), with as many cells as the grids of YOLOX have together."""
    if len(shape) != 3 or shape[0] != 1 or shape[2] < 6:
        return None
    for strides in ((8, 16, 32), (8, 16, 32, 64)):
        if shape[1] == sum((input_wh[0] // s) * (input_wh[1] // s) for s in strides):
            return Layout(
                "YOLOX", partial(_read_grids, strides=strides), bgr=True, overlapping=True
            )
    return None


def _read_grids(
    outputs: Sequence[Array], input_wh: tuple[int, int], strides: tuple[int, ...]
) -> tuple[Array, Array]:
    """Per cell: centre from the cell's corner and log of size, in cells; objectness; classes."""
    (cells,) = outputs[0].astype(np.float64)
    corners, steps = [], []
    for stride in strides:
        y, x = np.mgrid[: input_wh[1] // stride, : input_wh[0] // stride]
        corners.append(np.stack([x.ravel(), y.ravel()], axis=1))
        steps.append(np.full((x.size, 1), stride))
    step = np.concatenate(steps)
    center = (cells[:, :2] + np.concatenate(corners)) * step
    # Bounded, so that a broken model gives huge boxes and no overflow.
    size = np.exp(np.minimum(cells[:, 2:4], 20)) * step
    return _corners(center, size), cells[:, 4] * cells[:, 5]


def _scored_boxes(outputs: Sequence[Array], plain: bool) -> Layout | None:
    """OpenMMLab: (1, n, 5) corners and score in input pixels, and labels (1, n)."""
    boxes = 0 if outputs[0].ndim == 3 else 1
    if outputs[boxes].shape != (*outputs[1 - boxes].shape, 5) or len(outputs[boxes]) != 1:
        return None
    read = partial(_read_scored_boxes, boxes=boxes)
    if plain:
        return Layout("YOLOX of OpenMMLab", read, bgr=True)
    return Layout("RTMDet", read, bgr=True, mean=MEAN, std=STD)


def _read_scored_boxes(
    outputs: Sequence[Array], input_wh: tuple[int, int], boxes: int
) -> tuple[Array, Array]:
    people = outputs[boxes][outputs[1 - boxes] == 0]
    return people[:, :4], people[:, 4]


def _queries(outputs: Sequence[Array]) -> Layout | None:
    """DETR: (1, q, 4) centre and size in [0, 1], and logits (1, q, classes)."""
    boxes = [i for i, output in enumerate(outputs) if output.ndim == 3 and output.shape[2] == 4]
    if not boxes or outputs[0].shape[:2] != outputs[1].shape[:2] or len(outputs[0]) != 1:
        return None
    read = partial(_read_queries, boxes=boxes[0])
    # COCO's 80 classes without gaps are the mark of RT-DETR, which takes pixels in [0, 1].
    if outputs[1 - boxes[0]].shape[2] == 80:
        return Layout("RT-DETR", read, std=(255, 255, 255), stretched=True)
    return Layout("DETR", read, mean=MEAN, std=STD, stretched=True)


def _read_queries(
    outputs: Sequence[Array], input_wh: tuple[int, int], boxes: int
) -> tuple[Array, Array]:
    (box,), (logits,) = outputs[boxes].astype(np.float64), outputs[1 - boxes].astype(np.float64)
    classes = logits.shape[1]
    if classes == 92:  # DETR itself: one of all classes, of which the last is "nothing"
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    else:
        scores = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
    # About 90 columns are COCO's category numbers, in which a person is 1.
    person = 1 if classes in (90, 91, 92) else 0
    return _corners(box[:, :2] * input_wh, box[:, 2:] * input_wh), scores[:, person]


def _final(outputs: Sequence[Array], asks_for_size: bool) -> Layout | None:
    """Corners (n, 4) in input pixels, whole numbers (n,) as labels, and scores (n,)."""
    # With or without the dimension of the batch.
    batch = any(output.ndim == 3 for output in outputs)
    if batch and any(len(output) != 1 for output in outputs):
        return None
    parts = [output[0] if batch else output for output in outputs]
    boxes = [i for i, part in enumerate(parts) if part.ndim == 2 and part.shape[1] == 4]
    labels = [i for i, part in enumerate(parts) if part.ndim == 1 and part.dtype.kind in "iu"]
    scores = [i for i, part in enumerate(parts) if part.ndim == 1 and part.dtype.kind == "f"]
    if not (len(boxes) == len(labels) == len(scores) == 1):
        return None
    if len({len(part) for part in parts}) != 1:
        return None
    places = (boxes[0], labels[0], scores[0])
    # Torchvision counts COCO's categories from 1, the DETR family its classes from 0.
    read = partial(_read_final, places=places, person=0 if asks_for_size else 1)
    name = "end-to-end DETR" if asks_for_size else "torchvision"
    return Layout(name, read, std=(255, 255, 255), stretched=asks_for_size)


def _read_final(
    outputs: Sequence[Array], input_wh: tuple[int, int], places: tuple[int, int, int], person: int
) -> tuple[Array, Array]:
    boxes, labels, scores = (outputs[place] for place in places)
    people = labels.ravel() == person
    return boxes.reshape(-1, 4)[people], scores.ravel()[people]


def _corners(center: Array, size: Array) -> Array:
    return np.concatenate([center - size / 2, center + size / 2], axis=1)
