"""COCO keypoints files: parsed once, checked by one table of rules, read through views.

`read_annotations` parses a file. The views of what it returns are

- columns: `persons()` for training and evaluation, `instances()` with everything as written,
  `boxes()` for person detectors, `test_images()` where nothing is annotated;
- entries: `images` and `annotations`, and `part` to write some of them again;
- `problems`: the entries that break a rule.

All views share the rules of `hrpose.data.rules`. Strict reading raises UserError for the first
entry that breaks one; lenient reading leaves such entries out and reports them.

`read_results` parses the other kind of COCO file, a list of poses or detections.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.persons import BoxTable, PersonTable, group_by_image
from hrpose.data.rules import (
    AREA,
    BBOX,
    BROKEN,
    CATEGORY_ID,
    FILE_NAME,
    HEIGHT,
    ID,
    IMAGE_ID,
    SCORE,
    TRUST,
    WIDTH,
    Check,
    Checked,
    Entry,
    Problem,
    Rule,
    image_rule,
    keypoints_rule,
    printable,
    shown,
)
from hrpose.errors import UserError
from hrpose.io import read_json
from hrpose.skeleton import Skeleton
from hrpose.skeletons import from_coco_category


def read_annotations(
    path: "Path | CocoAnnotations",
    *,
    lenient: bool = False,
    category: str | None = None,
    merge_categories: bool = False,
) -> "CocoAnnotations":
    """Parse a COCO file; its views check what they return.

    `category` is one of several categories with keypoints, by its name or id; with
    `merge_categories` all of them, which must have the same keypoints, are read as one. Parsed
    annotations are returned as they are. Raises UserError where the file cannot be read or is no
    JSON object.
    """
    if isinstance(path, CocoAnnotations):
        return path
    if category is not None and merge_categories:
        raise UserError(
            f"--category {category}: expected it or --merge-categories, found both",
            code="option-conflict",
        )
    document = read_json(path)
    if not isinstance(document, dict):
        hint = "; are annotations and results swapped?" * isinstance(document, list)
        raise UserError(
            f"{path}: expected COCO annotations (an object), found {type(document).__name__}{hint}",
            code="annotations-invalid",
        )
    annotations = CocoAnnotations(path, document, lenient, category)
    return annotations.merged() if merge_categories else annotations


def load_persons(annotations: Path, unlabeled: bool = False) -> PersonTable:
    """The persons of a file that is not needed for anything else."""
    return read_annotations(annotations).persons(unlabeled)


@dataclass(frozen=True, eq=False)
class CocoAnnotations:
    """A parsed COCO file. Each view is checked when it is first used.

    `document` is the file's content. Views raise UserError, naming the file and the entry, where
    it does not have the form they need; `lenient` ones leave out images and annotations that break
    a rule. `category` is one of several categories with keypoints, by its name or id.
    """

    path: Path
    document: Mapping[str, Any]
    lenient: bool = False
    category: str | None = None

    def error(self, where: str, expected: str, found: object) -> UserError:
        """The error for a part of the file."""
        return UserError(
            f"{self.path}: {where}: expected {expected}, found {shown(found)}",
            code="annotations-invalid",
        )

    def entries(self, key: str) -> list[Entry]:
        """The objects in a list of the file, unchecked."""
        entries = self.document.get(key)
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            found = "nothing" if entries is None else type(entries).__name__
            raise self.error(f"'{key}'", "a list of objects, as in COCO keypoints JSON", found)
        return entries

    def _with_keypoints(self) -> list[Entry]:
        return [category for category in self.entries("categories") if category.get("keypoints")]

    def merged(self) -> "CocoAnnotations":
        """These annotations with all categories that have keypoints as one, the first of them.

        Its name is their supercategory, or their names where they have none in common. Raises
        UserError where their keypoints differ.
        """
        first, *others = categories = self._with_keypoints() or [{}]
        for other in others:
            if other["keypoints"] != first["keypoints"]:
                raise UserError(
                    f"{self.path}: --merge-categories: expected categories with the same "
                    f"keypoints, found others in '{other.get('name')}' than in "
                    f"'{first.get('name')}'; choose one with --category",
                    code="keypoints-differ",
                )
        if not others:
            return self
        ids = [category.get("id") for category in categories]
        kinds = {category.get("supercategory") for category in categories}
        name = kinds.pop() if len(kinds) == 1 else None
        one = {**first, "name": name or "+".join(str(c.get("name")) for c in categories)}
        annotations = [
            {**entry, "category_id": ids[0]} if entry.get("category_id") in ids else entry
            for entry in self.entries("annotations")
        ]
        rest = [c for c in self.entries("categories") if not c.get("keypoints")]
        document = {**self.document, "categories": [one, *rest], "annotations": annotations}
        return replace(self, document=document, category=None)

    @cached_property
    def _keypoint_category(self) -> tuple[Skeleton, int]:
        everything = self._with_keypoints()
        names = ", ".join(f"'{printable(str(c.get('name')))}'" for c in everything)
        categories = everything
        if self.category is not None:
            categories = [c for c in everything if c.get("name") == self.category]
            if len(categories) != 1:  # An id tells two categories of one name apart.
                categories = [c for c in everything if str(c.get("id")) == self.category]
            if len(categories) != 1:
                raise UserError(
                    f"{self.path}: --category {self.category}: expected one of the categories with "
                    f"keypoints ({names or 'none'}), by its name or id",
                    code="category-unknown",
                )
        if not categories:
            raise self.error("'categories'", "one category with 'keypoints'", "none")
        if len(categories) > 1:
            same = all(c["keypoints"] == categories[0]["keypoints"] for c in categories)
            raise UserError(
                f"{self.path}: 'categories': expected one with 'keypoints', found "
                f"{len(categories)}: {names}; choose one with --category"
                + ", or read them as one with --merge-categories"
                * same,
                code="category-unknown",
            )
        try:
            skeleton = from_coco_category(categories[0])
        except BROKEN as error:
            raise UserError(
                f"{self.path}: 'categories': {error}", code="annotations-invalid"
            ) from error
        return skeleton, self._category_id(categories[0])

    def _category_id(self, category: Entry) -> int:
        try:
            number: int = ID.read(category["id"])
        except BROKEN as error:
            raise self.error("'categories'", "a whole 'id'", category.get("id")) from error
        return number

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the one category with keypoints."""
        return self._keypoint_category[0]

    @property
    def category_id(self) -> int:
        """The id of the one category with keypoints."""
        return self._keypoint_category[1]

    @property
    def has_keypoints(self) -> bool:
        """Whether any category has keypoints; False for a file of boxes."""
        return any(category.get("keypoints") for category in self.entries("categories"))

    @cached_property
    def _images(self) -> Checked:
        check = Check(self.path, self.lenient, "image", self.entries("images"))
        names, width, height = (check.column(rule) for rule in (FILE_NAME, WIDTH, HEIGHT))
        ids = check.ids()
        sources = [str(e.get("source", "")).encode(errors="replace") for e in check.entries]
        return check.finish(
            {
                "image_ids": np.asarray(ids, np.int64),
                "file_names": np.asarray(names, np.bytes_),
                "image_wh": np.stack([width, height], axis=1).astype(np.int32).reshape(-1, 2),
                "sources": np.asarray(sources, np.bytes_),
            }
        )

    @cached_property
    def _image_rule(self) -> Rule:
        ids = self._images.columns["image_ids"].tolist()
        return image_rule({image_id: row for row, image_id in enumerate(ids)})

    def _check(self, entries: list[Entry], k: int) -> Checked:
        """The columns of annotations with k keypoints; missing ones count as not labeled."""
        check = Check(self.path, self.lenient, "annotation", entries)
        index = check.column(self._image_rule)
        boxes = np.asarray(check.column(BBOX), np.float64).reshape(-1, 4)
        nothing = [0] * (3 * k)
        given = [(entry.get("keypoints") or nothing) if k else nothing for entry in entries]
        keypoints = np.asarray(check.column(keypoints_rule(k), given), np.float32)
        keypoints = keypoints.reshape(len(entries), k, 3)
        # COCO labels keypoints of large persons only; an empty box is a mistake there.
        empty = keypoints[..., 2].any(axis=1) & (boxes[:, 2:] <= 0).any(axis=1)
        for row in np.flatnonzero(empty).tolist():
            check.problem(row, "bbox", "a width and a height above 0", boxes[row].tolist())
        sizes = boxes[:, 2:].prod(axis=1).tolist()
        given = [entry.get("area", size) for entry, size in zip(entries, sizes, strict=True)]
        areas = check.column(AREA, given)
        trust = check.column(TRUST, [entry.get("trust", 1) for entry in entries])
        return check.finish(
            {
                "annotation_ids": np.asarray(check.ids(), np.int64),
                "image_index": np.asarray(index, np.int32),
                "boxes": boxes,
                "keypoints": keypoints,
                "areas": np.asarray(areas, np.float64),
                "trust": np.asarray(trust, np.float32),
                "box_scores": np.ones(len(entries), np.float32),
            }
        )

    def _of_category(self) -> list[Entry]:
        entries = self.entries("annotations")
        if not self.has_keypoints:
            ids = [category.get("id") for category in self.entries("categories")]
            return [entry for entry in entries if entry.get("category_id") in ids]
        return [entry for entry in entries if entry.get("category_id") == self.category_id]

    def instances(self, crowds: bool = True) -> Checked:
        """All annotations of the category, labeled or not, as written, with the columns of a
        `PersonTable`. Where no category has keypoints: those of all, with keypoints (n, 0, 3).
        """
        return self._all if crowds else self._single

    @cached_property
    def _all(self) -> Checked:
        return self._check(self._of_category(), self._k)

    @cached_property
    def _single(self) -> Checked:
        return self._check([e for e in self._of_category() if not e.get("iscrowd")], self._k)

    @property
    def _k(self) -> int:
        return len(self.skeleton) if self.has_keypoints else 0

    def table(self, columns: Mapping[str, NDArray[Any]]) -> PersonTable:
        """A table of these columns of annotations and the columns of the images."""
        columns = {**self._images.columns, **columns}
        return PersonTable(skeleton=self.skeleton, category_id=self.category_id, **columns)

    def persons(self, unlabeled: bool = False) -> PersonTable:
        """The persons with at least one labeled keypoint, by the rules of the official code.

        Crowds are left out; boxes are clipped to the image, except those marked `bbox_exact`
        (MPII's). With `unlabeled`, persons without a labeled keypoint are included.
        """
        persons = [
            entry
            for entry in self._of_category()
            if not entry.get("iscrowd")
            # Anything but a list is reported by the check.
            and (unlabeled or not isinstance(k := entry.get("keypoints") or [], list) or any(k))
        ]
        checked = self._check(persons, len(self.skeleton))
        table = self.table(checked.columns)
        exact = np.asarray([entry.get("bbox_exact") is True for entry in checked.entries], bool)
        boxes, valid = _clipped(table.boxes, table.image_wh[table.image_index])
        valid |= exact & (table.boxes[:, 2:] > 0).all(axis=1)
        valid &= (unlabeled | table.keypoints[..., 2].any(axis=1)) & (table.areas > 0)
        columns = {**checked.columns, "boxes": np.where(exact[:, None], table.boxes, boxes)}
        return self.table({name: column[valid] for name, column in columns.items()})

    def test_images(self, skeleton: Skeleton) -> PersonTable | None:
        """The images of a file without annotations, as COCO publishes its test sets; no persons.

        None where the file has annotations. `skeleton` is that of the poses to predict.
        """
        if "annotations" in self.document:
            return None
        persons = [c for c in self.entries("categories") if c.get("name") == "person" and "id" in c]
        category_id = self._category_id(persons[0]) if persons else 1
        columns = {**self._images.columns, **self._check([], len(skeleton)).columns}
        return PersonTable(skeleton=skeleton, category_id=category_id, **columns)

    def boxes(self) -> BoxTable:
        """The images, and the boxes of the category `person`; crowds are left out."""
        categories = self.entries("categories")
        person = [entry.get("id") for entry in categories if entry.get("name") == "person"]
        if not person:
            known = ", ".join(str(entry.get("name")) for entry in categories) or "none"
            raise self.error("'categories'", "one named 'person'", known)
        persons = [
            entry
            for entry in self.entries("annotations")
            if entry.get("category_id") in person and not entry.get("iscrowd")
        ]
        check = Check(self.path, self.lenient, "annotation", persons)
        columns: dict[str, NDArray[Any]] = {
            "image_index": np.asarray(check.column(self._image_rule), np.int32),
            "boxes": np.asarray(check.column(BBOX), np.float64).reshape(-1, 4),
        }
        columns = check.finish(columns).columns
        rows, none = group_by_image(columns["image_index"]), np.zeros(0, np.intp)
        names, sources = (self._images.columns[name] for name in ("file_names", "sources"))
        return BoxTable(
            tuple(name.decode() for name in names.tolist()),
            tuple(columns["boxes"][rows.get(row, none)] for row in range(len(names))),
            tuple(source.decode() for source in sources.tolist()),
        )

    @property
    def images(self) -> list[Entry]:
        """The images' entries, checked."""
        return self._images.entries

    @property
    def annotations(self) -> list[Entry]:
        """The entries of all `instances`, checked."""
        return self._all.entries

    @property
    def image_columns(self) -> dict[str, NDArray[Any]]:
        """`image_ids`, `file_names`, `image_wh` and `sources`, as in a `PersonTable`."""
        return self._images.columns

    def annotations_by_image(self) -> list[list[Entry]]:
        """The annotations of each of the `images`."""
        rows = group_by_image(self._all.columns["image_index"])
        return [
            [self.annotations[row] for row in rows.get(image, ())]
            for image in range(len(self.images))
        ]

    def part(self, images: Iterable[Entry], annotations: Iterable[Entry]) -> Entry:
        """A document with some of the images and annotations, and this one's category."""
        own = [c for c in self.entries("categories") if c.get("id") == self.category_id]
        parts = {"images": list(images), "annotations": list(annotations), "categories": own}
        rest = {key: value for key, value in self.document.items() if key not in parts}
        return {**rest, "categories": own, **parts}

    @property
    def problems(self) -> list[Problem]:
        """Those of the images and of all annotations but crowds; empty for strict reading."""
        message = "annotation {}: 'category_id': expected a number, found {}"
        return [
            *self._images.problems,
            *self._single.problems,
            *(
                Problem("annotation", "category_id", e, message.format(e.get("id"), category))
                for e in self.entries("annotations")
                if isinstance(category := e.get("category_id"), list | dict)
            ),
        ]


@dataclass(frozen=True, eq=False)
class CocoResults:
    """A parsed COCO results file: a list of poses or of detections.

    Views raise UserError, naming the file and the entry, where it does not have the form they need.
    """

    path: Path
    document: Any

    @cached_property
    def entries(self) -> list[Entry]:
        """The results, unchecked. Raises UserError where the file is no list of objects."""
        return self._entries("annotations-invalid")

    def _entries(self, code: str) -> list[Entry]:
        if isinstance(self.document, list) and all(isinstance(e, dict) for e in self.document):
            return self.document
        hint = "; are annotations and results swapped?" * isinstance(self.document, dict)
        raise UserError(
            f"{self.path}: expected COCO results (a list of objects), "
            f"found {type(self.document).__name__}{hint}",
            code=code,
        )

    def poses(self, k: int) -> Checked:
        """The columns `image_ids`, `category_ids` and `scores` (n,), and `keypoints` (n, 3 k), all
        of 64 bits.
        """
        check = Check(self.path, False, "result", self.entries)
        keypoints = np.asarray(check.column(keypoints_rule(k)), np.float64)
        return check.finish(
            {
                "image_ids": np.asarray(check.column(IMAGE_ID), np.int64),
                "category_ids": np.asarray(check.column(CATEGORY_ID), np.int64),
                "scores": np.asarray(check.column(SCORE), np.float64),
                "keypoints": keypoints.reshape(len(self.entries), 3 * k),
            }
        )

    def detections(
        self, rows: Mapping[int, int] | None = None, score: float | None = None
    ) -> Checked:
        """The columns `boxes` (n, 4) [x, y, w, h] and `scores` (n,), both float64.

        With `rows`, by image id, also `image_index` (n,) int32, the row of each image. `score` is
        that of entries without one, which are invalid where it is None.
        """
        entries = self._entries("boxes-invalid")
        check = Check(self.path, False, "entry", entries, "boxes-invalid")
        scores = check.column(SCORE, [entry.get("score", score) for entry in entries])
        columns: dict[str, NDArray[Any]] = {
            "boxes": np.asarray(check.column(BBOX), np.float64).reshape(-1, 4),
            "scores": np.asarray(scores, np.float64),
        }
        if rows is not None:
            columns["image_index"] = np.asarray(check.column(image_rule(rows)), np.int32)
        return check.finish(columns)


def read_results(path: Path) -> CocoResults:
    """Parse a results file. Raises UserError where it is no JSON."""
    return CocoResults(path, read_json(path))


def read_boxes(path: Path) -> CocoResults:
    """Parse a file of boxes: COCO results, or COCO annotations.

    Annotations become results with the `file_name` of their image, where the file has it.
    """
    document = read_json(path)
    if isinstance(document, dict):
        annotations = CocoAnnotations(path, document)
        names = {
            str(image.get("id")): image["file_name"]
            for image in annotations.entries("images")
            if "file_name" in image
        }
        document = annotations.entries("annotations")
        for row, entry in enumerate(document):
            if (image := str(entry.get("image_id"))) in names:
                document[row] = {**entry, "file_name": names[image]}
    return CocoResults(path, document)


def _clipped(
    boxes: NDArray[np.float64], image_wh: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Clip boxes to their images as the official code does; also a mask of those that remain.

    The last pixel column is width - 1 and a box of width w ends at x + w - 1, so every box loses
    one pixel in width and height.
    """
    start = np.maximum(boxes[:, :2], 0)
    end = np.minimum(image_wh - 1, start + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([start, end - start], axis=1), (end > start).all(axis=1)
