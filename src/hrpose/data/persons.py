"""The persons of a data set as columns, and how annotations become them by the table of rules."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hrpose.data import rules
from hrpose.data.rules import BROKEN, Check, Checked, Entry, Note, Rule, as_number
from hrpose.geometry import box_of_keypoints
from hrpose.skeleton import Skeleton

# The size of an image whose file has to tell it; its boxes are not cut to it.
_UNKNOWN_WH = (65535, 65535)


@dataclass(frozen=True, slots=True, eq=False)
class PersonTable:
    """n persons in m images, as NumPy columns, which are cheap to share with worker processes.

    Per image: `image_ids` (m,) int64, `file_names` (m,) UTF-8 bytes relative to the images'
    folder, `image_wh` (m, 2) int32, `sources` (m,) UTF-8 bytes (where an image came from; may be
    empty). Per person: `image_index` (n,) int32 into the images, `annotation_ids` (n,) int64,
    `boxes` (n, 4) float64 [x, y, w, h], `keypoints` (n, k, 3) float32 (x, y, visibility 0, 1 or
    2), `areas` (n,) float64, `trust` (n,) float32 in [0, 1] (the weight of the labels in training;
    1 for human ones), `box_scores` (n,) float32 (1 for ground truth). `category_id` is the persons'
    category in the COCO file, which results must have. `notes` are about what was repaired or left
    out when the file was read.
    """

    skeleton: Skeleton
    image_ids: NDArray[np.int64]
    file_names: NDArray[np.bytes_]
    image_wh: NDArray[np.int32]
    sources: NDArray[np.bytes_]
    image_index: NDArray[np.int32]
    annotation_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    keypoints: NDArray[np.float32]
    areas: NDArray[np.float64]
    trust: NDArray[np.float32]
    box_scores: NDArray[np.float32]
    category_id: int = 1
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def image_name(self, person: int) -> str:
        """The file name of a person's image."""
        name: bytes = self.file_names[self.image_index[person]]
        return name.decode()

    def person_sources(self) -> NDArray[np.bytes_]:
        """(n,): the source of each person's image."""
        sources: NDArray[np.bytes_] = self.sources[self.image_index]
        return sources

    def select(self, chosen: Any) -> "PersonTable":
        """The persons of a mask or an array of indices; the images stay."""
        columns = ("image_index", "annotation_ids", "boxes", "keypoints", "areas", "trust")
        persons = {name: getattr(self, name)[chosen] for name in (*columns, "box_scores")}
        images = (
            "skeleton",
            "image_ids",
            "file_names",
            "image_wh",
            "sources",
            "category_id",
            "notes",
        )
        return PersonTable(**{name: getattr(self, name) for name in images}, **persons)


@dataclass(frozen=True, slots=True, eq=False)
class BoxTable:
    """n images: their `file_names`, the `boxes` (p, 4) [x, y, w, h] of the p persons of each, and
    `sources`: where each came from, which may be empty. `notes` as in `PersonTable`.
    """

    file_names: tuple[str, ...]
    boxes: tuple[NDArray[np.float64], ...]
    sources: tuple[str, ...]
    notes: tuple[Note, ...] = ()

    def __len__(self) -> int:
        return len(self.file_names)

    def select(self, rows: NDArray[np.intp]) -> "BoxTable":
        """Some of the images, by their rows."""
        return BoxTable(
            tuple(self.file_names[row] for row in rows),
            tuple(self.boxes[row] for row in rows),
            tuple(self.sources[row] for row in rows),
            self.notes,
        )

    def without(self, sources: Collection[str]) -> "BoxTable":
        """The images from other sources. Raises ValueError for an unknown source."""
        if missing := sorted(set(sources) - set(self.sources)):
            known = ", ".join(sorted(filter(None, set(self.sources)))) or "none"
            raise ValueError(f"expected sources out of {known}, found {', '.join(missing)}")
        return self.select(np.flatnonzero([source not in sources for source in self.sources]))

    def held_out(self, every: int) -> tuple["BoxTable", "BoxTable"]:
        """(the other images, every `every`-th image): both have images of every source."""
        rows = np.arange(len(self))
        return self.select(rows[rows % every > 0]), self.select(rows[rows % every == 0])


def group_by_image(image_index: ArrayLike) -> dict[int, NDArray[np.intp]]:
    """The rows of each image that has any, in their order; images ascending.

    `image_index` (n,) is the image of each row, by index or by id.
    """
    index = np.asarray(image_index)
    order = index.argsort(kind="stable")
    images, starts = np.unique(index[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(images) else []
    return dict(zip(images.tolist(), groups, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class ImageRows:
    """Where annotations find their image: the row of each id in the file, and columns by row."""

    rows: Mapping[Any, int]
    image_ids: NDArray[np.int64]
    image_wh: NDArray[np.int32]


def check_annotations(
    path: Path, lenient: bool, entries: Sequence[Entry], k: int, images: ImageRows
) -> Checked:
    """The columns of a `PersonTable` for annotations with k keypoints, and `crowds` (n,) bool.

    Where k is 0, nothing but the boxes counts.
    """
    check = Check(path, lenient, "annotation", entries)
    index = np.asarray(check.column(rules.image_rule(images.rows)), np.int32)
    _name_images(check, index, images)
    crowds = np.asarray(check.column(rules.CROWD), np.bool_)
    keypoints = _keypoints(check, k)
    labeled = keypoints[..., 2] > 0
    # Without images every annotation has a problem already.
    image_wh = (
        images.image_wh[index] if len(images.image_wh) else np.zeros((len(index), 2), np.int32)
    )
    boxes = _boxes(check, keypoints, labeled, image_wh)
    areas = _areas(check, boxes)
    trust = check.column(rules.TRUST, [entry.get("trust", 1) for entry in check.entries])
    ids = _annotation_ids(check)
    if k:
        _count(check, labeled)
        points = np.abs(keypoints[..., :2])
        shares = ((points <= 1).all(axis=2) | ~labeled).all(axis=1) & (labeled.sum(axis=1) > 1)
        for row in np.flatnonzero(shares).tolist():
            check.note(row, rules.SHARES)
    return check.finish(
        {
            "annotation_ids": np.asarray(ids, np.int64),
            "image_index": index,
            "boxes": boxes,
            "keypoints": keypoints.astype(np.float32),
            "areas": areas,
            "trust": np.asarray(trust, np.float32),
            "box_scores": np.ones(len(entries), np.float32),
            "crowds": crowds,
        }
    )


def _name_images(check: Check, index: NDArray[np.int32], images: ImageRows) -> None:
    """Annotations name their image by its number, also where the file does it by a text."""
    if not len(images.image_ids):
        return
    for row, image_id in enumerate(images.image_ids[index].tolist()):
        given = check.entries[row].get("image_id")
        if given != image_id and row not in check.problems:
            check.replace(row, image_id=image_id)
            if isinstance(given, str) and isinstance(rules.id_key(given), int):
                check.note(row, rules.NUMBER_AS_TEXT)


def _keypoints(check: Check, k: int) -> NDArray[np.float64]:
    """(n, k, 3); visibilities are 0, 1 and 2."""
    if not k:
        return np.zeros((len(check.entries), 0, 3))
    rule, nothing = rules.keypoints_rule(k), [0] * (3 * k)
    values = [entry.get("keypoints") or nothing for entry in check.entries]
    column = rule.many(values)
    if column is None:
        plain = [_plain_keypoints(check, row, value) for row, value in enumerate(values)]
        column = check.column(rule, plain)
    keypoints = np.asarray(column, np.float64).reshape(-1, k, 3)
    seen = keypoints[..., 2]
    for row in np.flatnonzero(~np.isin(seen, (0, 1, 2)).all(axis=1)).tolist():
        new = np.where(seen[row] == 1, 1, np.where(seen[row] > 0, 2, 0))
        keypoints = keypoints.copy() if keypoints.base is not None else keypoints
        keypoints[row, :, 2] = new
        check.note(row, rules.VISIBILITY, keypoints=keypoints[row].ravel().tolist())
        seen = keypoints[..., 2]
    return keypoints


def _plain_keypoints(check: Check, row: int, value: Any) -> Any:
    """One list of numbers; what is not labeled is 0, 0, 0."""
    if not isinstance(value, list):
        return value
    if value and all(isinstance(each, list) and len(each) == 3 for each in value):
        value = [number for each in value for number in each]
        check.note(row, rules.KEYPOINTS_NESTED, keypoints=value)
    empty = [i for i in range(0, len(value) - 2, 3) if not _labels(value[i + 2])]
    if any(map(_is_empty, value)):
        plain = list(value)
        for i in empty:
            if any(map(_is_empty, value[i : i + 3])):
                plain[i : i + 3] = 0, 0, 0
        if plain != value and not any(map(_is_empty, plain)):
            check.note(row, rules.KEYPOINT_EMPTY, keypoints=plain)
        value = plain
    return value


def _is_empty(value: Any) -> bool:
    return value is None or value != value


def _labels(visibility: Any) -> bool:
    try:
        return bool(as_number(visibility) > 0)
    except BROKEN:
        return not _is_empty(visibility)


def _boxes(
    check: Check,
    keypoints: NDArray[np.float64],
    labeled: NDArray[np.bool_],
    image_wh: NDArray[np.int32],
) -> NDArray[np.float64]:
    """(n, 4); a box without size is made from the keypoints; without these there is no person."""
    boxes = np.array(_or_zero(check, rules.BBOX), np.float64).reshape(-1, 4)
    for row in np.flatnonzero(~(boxes[:, 2:] > 0).all(axis=1)).tolist():
        if row in check.problems:
            continue
        if not labeled[row].any():
            check.note(row, rules.NOBODY)
            continue
        width, height = image_wh[row].tolist()
        points = keypoints[row, labeled[row], :2]
        made = box_of_keypoints(points, (width, height) if width else _UNKNOWN_WH).round(3)
        boxes[row] = made
        check.note(row, rules.BOX_MADE, bbox=made.tolist(), bbox_guessed=True)
    start, size = boxes[:, :2], boxes[:, 2:]
    corners = (start + size > image_wh + 1).any(axis=1) & (image_wh > 0).any(axis=1)
    corners &= ((size > start) & (size <= image_wh + 1)).all(axis=1)
    for row in np.flatnonzero(corners).tolist():
        check.note(row, rules.CORNERS)
    return boxes


def _or_zero(check: Check, rule: Rule) -> Any:
    """The values of a field, 0 where they are invalid."""
    values = [entry.get(rule.field) for entry in check.entries]
    column = rule.many(values)
    if column is not None:
        return column
    column = [rule.blank] * len(values)
    for row, value in enumerate(values):
        try:
            number = as_number(value)
            column[row] = rule.read(number)
        except BROKEN:
            continue
        if number != value:
            check.note(row, rules.NUMBER_AS_TEXT, **{rule.field: number})
    return column


def _areas(check: Check, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    areas = np.array(_or_zero(check, rules.AREA), np.float64)
    for row in np.flatnonzero(~(areas > 0)).tolist():
        areas[row] = boxes[row, 2:].prod()
        check.note(row, rules.AREA_OF_BOX, area=round(float(areas[row]), 3))
    return areas


def _annotation_ids(check: Check) -> list[int]:
    """The entries' ids, all different; nothing refers to them, so that new ones do no harm."""
    values = [entry.get("id") for entry in check.entries]
    whole = rules.ID.many(values)
    given: list[int] = [] if whole is None else np.asarray(whole).tolist()
    if len(set(given)) == len(values):
        return given
    known: dict[int, int] = {}
    for row, value in enumerate(values):
        try:
            number = rules.ID.read(as_number(value))
        except BROKEN:
            continue
        if known.setdefault(number, row) == row and isinstance(value, str):
            check.note(row, rules.NUMBER_AS_TEXT, id=number)
    numbers = {row: number for number, row in known.items()}
    new = max(known, default=0) + 1
    ids = []
    for row in range(len(values)):
        if row not in numbers:
            numbers[row] = new
            new += 1
            check.note(row, rules.ID_NEW, id=numbers[row])
        ids.append(numbers[row])
    return ids


def _count(check: Check, labeled: NDArray[np.bool_]) -> None:
    """Labeled keypoints are counted, whatever `num_keypoints` says."""
    for row, count in enumerate(labeled.sum(axis=1).tolist()):
        given = check.entries[row].get("num_keypoints", count)
        if given != count and row not in check.problems:
            check.note(row, rules.NUM_KEYPOINTS, num_keypoints=count)


def clipped_to_images(
    boxes: NDArray[np.float64], image_wh: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Clip boxes to their images as the official code does; also a mask of those that remain.

    The last pixel column is width - 1 and a box of width w ends at x + w - 1, so every box loses
    one pixel in width and height.
    """
    start = np.maximum(boxes[:, :2], 0)
    end = np.minimum(image_wh - 1, start + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([start, end - start], axis=1), (end > start).all(axis=1)
