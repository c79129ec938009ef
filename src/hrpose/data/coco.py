"""COCO keypoints files: parsed once, checked by one table of rules, read through views.

`read_annotations` parses a file. The views of what it returns are

- columns: `persons()` for training and evaluation, `instances()` with everything as written,
  `boxes()` for person detectors, `test_images()` where nothing is annotated;
- entries: `images` and `annotations`, and `part` to write some of them again;
- `problems`: the entries that break a rule.

All views share the rules of `hrpose.data.rules`: odd entries are repaired or left out, and counted
in `notes`. Strict reading raises UserError for the first entry that breaks a rule; lenient reading
leaves such entries out too and reports them as `problems`.

`read_results` parses the other kind of COCO file, a list of poses or detections.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.entries import (
    Category,
    as_one_category,
    category_id,
    category_ids,
    check_images,
    choose_category,
    of_category,
    with_keypoints,
)  # fmt: skip
from hrpose.data.persons import (
    BoxTable,
    ImageRows,
    PersonTable,
    check_annotations,
    clipped_to_images,
    group_by_image,
)
from hrpose.data.rules import (
    BBOX,
    BOX_OUTSIDE,
    CATEGORY_ID,
    IMAGE_ID,
    SCORE,
    Check,
    Checked,
    Entry,
    Note,
    Outcome,
    Problem,
    image_rule,
    keypoints_rule,
    shown,
)  # fmt: skip
from hrpose.errors import UserError
from hrpose.io import read_json
from hrpose.skeleton import Skeleton


def read_annotations(
    path: "Path | CocoAnnotations",
    *,
    lenient: bool = False,
    category: str | None = None,
    merge_categories: bool = False,
    sized: bool = True,
) -> "CocoAnnotations":
    """Parse a COCO file; its views check what they return.

    `category` is one of several categories with keypoints, by its name or id; with
    `merge_categories` all of them, which must have the same keypoints, are read as one. Unless
    `sized`, images may lack their size. Parsed annotations are returned as they are. Raises
    UserError where the file cannot be read or is no JSON object.
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
    annotations = CocoAnnotations(path, document, lenient, category, sized)
    return annotations.merged() if merge_categories else annotations


def load_persons(annotations: Path, unlabeled: bool = False) -> PersonTable:
    """The persons of a file that is not needed for anything else."""
    return read_annotations(annotations).persons(unlabeled)


@dataclass(frozen=True, eq=False)
class CocoAnnotations:
    """A parsed COCO file. Each view is checked when it is first used.

    `document` is the file's content. Views raise UserError, naming the file and the entry, where
    it does not have the form they need; `lenient` ones leave out images and annotations that break
    a rule. The other fields are those of `read_annotations`.
    """

    path: Path
    document: Mapping[str, Any]
    lenient: bool = False
    category: str | None = None
    sized: bool = True

    def error(self, where: str, expected: str, found: object) -> UserError:
        """The error for a part of the file."""
        return UserError(
            f"{self.path}: {where}: expected {expected}, found {shown(found)}",
            code="annotations-invalid",
        )

    def entries(self, key: str) -> list[Entry]:
        """The objects in a list of the file, unchecked."""
        entries = self.document.get(key)
        if not isinstance(entries, list):
            found = "nothing" if entries is None else type(entries).__name__
            raise self.error(f"'{key}'", "a list of objects, as in COCO keypoints JSON", found)
        for row, entry in enumerate(entries, 1):
            if not isinstance(entry, dict):
                raise self.error(f"'{key}', entry {row}", "an object", shown(entry))
        return entries

    def merged(self) -> "CocoAnnotations":
        """These annotations with all categories that have keypoints as one, the first of them.

        Its name is their supercategory, or their names where they have none in common. Raises
        UserError where their keypoints differ.
        """
        lists = self.entries("categories"), self.entries("annotations")
        categories, annotations = as_one_category(self.path, *lists)
        document = {**self.document, "categories": categories, "annotations": annotations}
        return replace(self, document=document, category=None)

    @cached_property
    def _keypoint_category(self) -> Category:
        return choose_category(self.path, self.entries("categories"), self.category)

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the one category with keypoints."""
        return self._keypoint_category.skeleton

    @property
    def category_id(self) -> int:
        """The id of the one category with keypoints."""
        return self._keypoint_category.number

    @property
    def has_keypoints(self) -> bool:
        """Whether any category has keypoints; False for a file of boxes."""
        return bool(with_keypoints(self.entries("categories")))

    @cached_property
    def _checked_images(self) -> tuple[Checked, ImageRows]:
        checked, rows = check_images(self.path, self.lenient, self.entries("images"), self.sized)
        columns = checked.columns
        return checked, ImageRows(rows, columns["image_ids"], columns["image_wh"])

    @property
    def _images(self) -> Checked:
        return self._checked_images[0]

    def _check(self, entries: list[Entry], k: int) -> Checked:
        """The columns of annotations with k keypoints."""
        return check_annotations(self.path, self.lenient, entries, k, self._checked_images[1])

    @cached_property
    def _all(self) -> Checked:
        """All annotations of the category; those of all where none has keypoints."""
        known = category_ids(self.entries("categories"))
        if not self.has_keypoints:
            return self._of(tuple(sorted(known)), known, 0)
        return self._of((self.category_id,), known, len(self.skeleton))

    def _of(self, chosen: tuple[int, ...], known: set[int], k: int) -> Checked:
        """The annotations of the categories `chosen` out of the `known` ones, with k keypoints."""
        given = self.entries("annotations")
        found, problems, notes = of_category(self.lenient, given, chosen, known)
        checked = self._check(found, k)
        problems = checked.problems + problems
        checked = replace(checked, problems=problems, notes=(*notes, *checked.notes))
        if not self.lenient:
            self.refuse_nothing(checked)
        return checked

    def refuse_nothing(self, checked: Checked | None = None) -> None:
        """Raise UserError where all of the file's annotations have been left out."""
        checked = checked or self._all
        reasons = [*map(str, checked.notes), *self.refused(checked)]
        if not checked.entries and reasons:
            raise UserError(
                f"{self.path}: expected usable annotations, found none: {'; '.join(reasons)}",
                code="labels-missing",
            )

    def no_labels(self) -> UserError:
        """The error for a file without a labeled person, with what its annotations are."""
        instances = self._all
        crowds = instances.columns["crowds"]
        unlabeled = ~crowds & ~instances.columns["keypoints"][..., 2].any(axis=1)
        notes = self.persons(unlabeled=True).notes
        left_out = [str(note) for note in notes if note.kind.outcome is Outcome.left_out]
        counts = {"crowds": crowds.sum(), "without a labeled keypoint": unlabeled.sum()}
        reasons = [f"{count:,} {what}" for what, count in counts.items() if count]
        found = "; ".join([*reasons, *left_out, *self.refused()]) or "none"
        return UserError(
            f"{self.path}: expected persons with labeled keypoints, found {found}",
            code="labels-missing",
        )

    def refused(self, checked: Checked | None = None) -> list[str]:
        """A line for each kind of entries that lenient reading has refused and left out."""
        groups: dict[tuple[str, str], list[Problem]] = {}
        for problem in (*self._images.problems, *(checked or self._all).problems):
            if problem.odd is None:
                groups.setdefault((problem.of, problem.field), []).append(problem)
        return [
            f"{len(own):,} {of}{'s' * (len(own) > 1)} left out for '{field}': {own[0].message}"
            for (of, field), own in groups.items()
        ]

    def instances(self, crowds: bool = True) -> Checked:
        """All annotations of the category, labeled or not, with the columns of a `PersonTable` and
        `crowds`. Where no category has keypoints: those of all, with keypoints (n, 0, 3).
        """
        return self._all if crowds else self._single

    @cached_property
    def _single(self) -> Checked:
        return self._all.select(~self._all.columns["crowds"])

    def table(self, columns: Mapping[str, NDArray[Any]]) -> PersonTable:
        """A table of these columns of annotations and the columns of the images."""
        columns = {**self._images.columns, **columns}
        columns.pop("crowds", None)
        return PersonTable(
            skeleton=self.skeleton, category_id=self.category_id, notes=self.notes, **columns
        )

    def persons(self, unlabeled: bool = False) -> PersonTable:
        """The persons with at least one labeled keypoint, by the rules of the official code.

        Crowds are left out; boxes are clipped to the image, except those marked `bbox_exact`
        (MPII's). With `unlabeled`, persons without a labeled keypoint are included.
        """
        single = self._single
        labeled = np.asarray(single.columns["keypoints"][..., 2].any(axis=1), np.bool_)
        checked = single if unlabeled else single.select(labeled)
        table = self.table(checked.columns)
        exact = np.asarray([entry.get("bbox_exact") is True for entry in checked.entries], bool)
        boxes, valid = clipped_to_images(table.boxes, table.image_wh[table.image_index])
        valid |= exact
        columns = {**checked.columns, "boxes": np.where(exact[:, None], table.boxes, boxes)}
        table = self.table({name: column[valid] for name, column in columns.items()})
        outside = [checked.entries[row] for row in np.flatnonzero(~valid).tolist()]
        if outside:
            note = Note.about(BOX_OUTSIDE, "annotation", outside)
            table = replace(table, notes=(*table.notes, note))
        return table

    def test_images(self, skeleton: Skeleton) -> PersonTable | None:
        """The images of a file without annotations, as COCO publishes its test sets; no persons.

        None where the file has annotations. `skeleton` is that of the poses to predict.
        """
        if "annotations" in self.document:
            return None
        persons = [c for c in self.entries("categories") if c.get("name") == "person" and "id" in c]
        number = category_id(self.path, persons[0]) if persons else 1
        columns = {**self._images.columns, **self._check([], len(skeleton)).columns}
        del columns["crowds"]
        notes = self._images.notes
        return PersonTable(skeleton=skeleton, category_id=number, notes=notes, **columns)

    def boxes(self) -> BoxTable:
        """The images, and the boxes of the category `person`; crowds are left out."""
        categories = self.entries("categories")
        persons = [entry for entry in categories if entry.get("name") == "person"]
        if not persons:
            known = ", ".join(str(entry.get("name")) for entry in categories) or "none"
            raise self.error("'categories'", "one named 'person'", known)
        ids = tuple(category_id(self.path, each) for each in persons)
        keypoints = persons[0].get("keypoints") if len(persons) == 1 else None
        k = len(keypoints) if isinstance(keypoints, list) else 0
        checked = self._of(ids, category_ids(categories), k)
        columns = checked.select(~checked.columns["crowds"]).columns
        rows, none = group_by_image(columns["image_index"]), np.zeros(0, np.intp)
        names, sources = (self._images.columns[name] for name in ("file_names", "sources"))
        return BoxTable(
            tuple(name.decode() for name in names.tolist()),
            tuple(columns["boxes"][rows.get(row, none)] for row in range(len(names))),
            tuple(source.decode() for source in sources.tolist()),
            (*self._images.notes, *checked.notes),
        )

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was repaired or left out, a note for each kind of odd entries."""
        category = self._keypoint_category.notes if self.has_keypoints else ()
        return (*category, *self._images.notes, *self._all.notes)

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
        category = self._keypoint_category
        own = [{**category.entry, "id": self.category_id}]
        if category.notes:
            written = self.skeleton.to_coco_category()
            own[0] |= {key: written[key] for key in ("keypoints", "skeleton")}
        parts = {"images": list(images), "annotations": list(annotations), "categories": own}
        rest = {key: value for key, value in self.document.items() if key not in parts}
        return {**rest, "categories": own, **parts}

    @property
    def problems(self) -> list[Problem]:
        """The entries that were refused, and odd ones; empty for strict reading."""
        own: list[Problem] = []
        if self.lenient and self.has_keypoints:
            category = self._keypoint_category
            own += [Problem.of_kind(n.kind, "category", category.entry) for n in category.notes]
        return [*self._images.problems, *self._all.problems, *own]


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
