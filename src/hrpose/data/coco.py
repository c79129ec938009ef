"""COCO keypoints JSON to a `PersonTable`, checked once, at the door."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.persons import PersonTable
from hrpose.data.pictures import stays_inside
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton, from_coco_category

_LARGEST = 65535  # pixels, the most that a JPEG can have
_LARGEST_ID = 2**63 - 1
# Bytes of a JSON file: COCO's largest has half a gigabyte.
MAX_JSON = 2_000_000_000


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises UserError where it is missing, not JSON, or above `MAX_JSON`."""
    try:
        if (size := path.stat().st_size) > MAX_JSON:
            raise UserError(f"{path}: expected at most {MAX_JSON:,} bytes of JSON, found {size:,}")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, found {error}") from error


def load_persons(annotations: Path, unlabelled: bool = False) -> PersonTable:
    """The people with at least one labelled keypoint, by the rules of the official code.

    Crowds are left out; boxes are cut to the picture, except those that an annotation calls
    `bbox_exact` (MPII's). The skeleton is the one of the category that has keypoints. With
    `unlabelled`, people without a labelled keypoint are there too. Raises UserError, naming the
    file and the entry, where something is not of the COCO form.
    """
    document = read_json(annotations)
    reader = Reader(annotations)
    skeleton, category_id = reader.skeleton(document)
    pictures = reader.pictures(document)
    rows = {int(image_id): row for row, image_id in enumerate(pictures["image_ids"])}
    people = [
        annotation
        for annotation in reader.entries(document, "annotations")
        if annotation.get("category_id") == category_id
        and not annotation.get("iscrowd")
        and (unlabelled or _labelled(annotation.get("keypoints")))
    ]
    columns = reader.people(people, len(skeleton), rows)
    exact = np.asarray([person.get("bbox_exact") is True for person in people], bool)
    boxes, kept = _inside(columns["boxes"], pictures["image_wh"][columns["image_index"]])
    kept |= exact & (columns["boxes"][:, 2:] > 0).all(axis=1)
    kept &= (unlabelled | columns["keypoints"][..., 2].any(axis=1)) & (columns["areas"] > 0)
    columns["boxes"] = np.where(exact[:, None], columns["boxes"], boxes)
    table = PersonTable(skeleton=skeleton, category_id=category_id, **pictures, **columns)
    return table.select(kept)


def load_pictures(annotations: Path, skeleton: Skeleton) -> PersonTable | None:
    """The pictures of a file without annotations, as COCO publishes its test sets, and nobody.

    None where the file has annotations. `skeleton` is that of the people to be found there.
    """
    document = read_json(annotations)
    if not isinstance(document, dict) or "annotations" in document:
        return None
    reader = Reader(annotations)
    pictures = reader.pictures(document)
    categories = reader.entries(document, "categories")
    people = [c for c in categories if c.get("name") == "person" and "id" in c]
    nobody = reader.people([], len(skeleton), {})
    category_id = reader.category_id(people[0]) if people else 1
    return PersonTable(skeleton=skeleton, category_id=category_id, **pictures, **nobody)


class Reader:
    """Reads the parts of one COCO document and names the file in every complaint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def error(self, where: str, expected: str, found: object) -> UserError:
        shown = str(found)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return UserError(f"{self.path}: {where}: expected {expected}, found {shown}")

    def entries(self, document: Any, key: str) -> list[dict[str, Any]]:
        entries = document.get(key) if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            found = "nothing" if entries is None else type(entries).__name__
            raise self.error(f"'{key}'", "a list of objects, as in COCO keypoints JSON", found)
        return entries

    def skeleton(self, document: Any) -> tuple[Skeleton, int]:
        categories = [c for c in self.entries(document, "categories") if c.get("keypoints")]
        if len(categories) != 1:
            raise self.error("'categories'", "one category with 'keypoints'", len(categories))
        try:
            skeleton = from_coco_category(categories[0])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{self.path}: 'categories': {error}") from error
        return skeleton, self.category_id(categories[0])

    def category_id(self, category: dict[str, Any]) -> int:
        try:
            return _whole(category["id"], 0, _LARGEST_ID)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self.error("'categories'", "a whole 'id'", repr(error)) from error

    def pictures(self, document: Any) -> dict[str, NDArray[Any]]:
        entries = self.entries(document, "images")
        names = []
        for entry in entries:
            name = entry.get("file_name")
            inside = isinstance(name, str) and stays_inside(name)
            if not inside:
                where = f"image {entry.get('id')}: 'file_name'"
                raise self.error(where, "a relative path without '..'", name)
            names.append(str(name).encode())
        sizes = self._column(
            "image",
            entries,
            lambda e: (_whole(e["width"], 1, _LARGEST), _whole(e["height"], 1, _LARGEST)),
            f"'width' and 'height' from 1 to {_LARGEST}",
        )
        ids = self._column(
            "image", entries, lambda e: _whole(e["id"], 0, _LARGEST_ID), "a whole 'id'"
        )
        self._distinct("image", ids)
        return {
            "image_ids": np.asarray(ids, np.int64).reshape(-1),
            "file_names": np.asarray(names, np.bytes_).reshape(-1),
            "image_wh": np.asarray(sizes, np.int32).reshape(-1, 2),
            "sources": np.asarray(
                [str(e.get("source", "")).encode(errors="replace") for e in entries], np.bytes_
            ).reshape(-1),
        }

    def people(
        self, people: Sequence[dict[str, Any]], k: int, rows: dict[int, int]
    ) -> dict[str, NDArray[Any]]:
        def column(read: Callable[[dict[str, Any]], Any], expected: str) -> list[Any]:
            return self._column("annotation", people, read, expected)

        ids = column(lambda a: _whole(a["id"], 0, _LARGEST_ID), "a whole 'id'")
        self._distinct("annotation", ids)
        index, boxes = self.boxes(people, rows)
        keypoints = self._numbers(people, "keypoints", 3 * k).reshape(len(people), k, 3)
        # COCO labels keypoints of large people only; a box without size is a mistake there.
        empty = keypoints[..., 2].any(axis=1) & (boxes[:, 2:] <= 0).any(axis=1)
        for row in np.flatnonzero(empty)[:1]:
            where = f"annotation {people[row]['id']}: 'bbox'"
            raise self.error(where, "a width and a height above 0", boxes[row].tolist())
        areas = np.asarray(
            column(lambda a: _real(a.get("area", a["bbox"][2] * a["bbox"][3])), "a number 'area'"),
            np.float64,
        )
        for annotation, area in zip(people, areas, strict=True):
            if not np.isfinite(area) or area < 0:
                raise self.error(f"annotation {annotation['id']}: 'area'", "at least 0", area)
        trust = column(lambda a: _real(a.get("trust", 1)), "a number 'trust'")
        for annotation, value in zip(people, trust, strict=True):
            if not 0 <= value <= 1:
                raise self.error(f"annotation {annotation['id']}: 'trust'", "0 to 1", value)
        return {
            "image_index": index,
            "annotation_ids": np.asarray(ids, np.int64),
            "boxes": boxes,
            "keypoints": keypoints.astype(np.float32),
            "areas": areas,
            "trust": np.asarray(trust, np.float32),
            "box_scores": np.ones(len(people), np.float32),
        }

    def boxes(
        self, people: Sequence[dict[str, Any]], rows: dict[int, int]
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The row of each one's picture (n,), and the boxes (n, 4)."""
        index = self._column(
            "annotation",
            people,
            lambda a: rows[a["image_id"]],
            "an 'image_id' that is in 'images'",
        )
        return np.asarray(index, np.int32), self._numbers(people, "bbox", 4)

    def _column(
        self,
        kind: str,
        entries: Sequence[dict[str, Any]],
        read: Callable[[dict[str, Any]], Any],
        expected: str,
    ) -> list[Any]:
        values = []
        for entry in entries:
            try:
                values.append(read(entry))
            except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
                raise self.error(f"{kind} {entry.get('id')}", expected, repr(error)) from error
        return values

    def _numbers(
        self, people: Sequence[dict[str, Any]], key: str, length: int
    ) -> NDArray[np.float64]:
        expected = f"{length} finite numbers"
        rows = []
        for annotation in people:
            values = annotation.get(key)
            if not isinstance(values, list) or len(values) != length:
                found = len(values) if isinstance(values, list) else values
                raise self.error(f"annotation {annotation.get('id')}: '{key}'", expected, found)
            rows.append(values)
        try:
            read: NDArray[Any] = np.asarray(rows)
        except ValueError:  # lists among the numbers
            read = np.asarray(None)
        if read.dtype.kind not in "iuf":  # text, nothing, or numbers beyond 64 bits
            for annotation, row in zip(people, rows, strict=True):
                if not all(isinstance(v, int | float) and abs(v) < 1e300 for v in row):
                    raise self.error(f"annotation {annotation.get('id')}: '{key}'", expected, row)
            read = np.asarray(rows, np.float64)
        numbers = read.astype(np.float64).reshape(len(rows), length)
        finite = np.isfinite(numbers).all(axis=1)
        if not finite.all():
            first = int(np.argmin(finite))
            where = f"annotation {people[first].get('id')}: '{key}'"
            raise self.error(where, expected, numbers[first].tolist())
        return numbers

    def _distinct(self, kind: str, ids: list[int]) -> None:
        if len(set(ids)) != len(ids):
            seen: set[int] = set()
            twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise self.error(f"{kind} ids", "each id once", f"{twice} twice")


def _labelled(keypoints: Any) -> bool:
    """False for a person without keypoints; what is no list is complained about later."""
    return any(keypoints) if isinstance(keypoints, list) else keypoints is not None


def _whole(value: Any, least: int, most: int) -> int:
    number = int(_real(value))
    if number != value or not least <= number <= most:
        raise ValueError(value)
    return number


def _real(value: Any) -> int | float:
    """A number as JSON has it: text that looks like one is none."""
    if not isinstance(value, int | float):
        raise TypeError(value)
    float(value)  # some are beyond all floats
    return value


def _inside(
    boxes: NDArray[np.float64], image_wh: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Cut boxes to their pictures as the official code does, and say which are left.

    The last pixel column is width - 1 and a box of width w ends at x + w - 1, so every box loses
    one pixel in width and height.
    """
    start = np.maximum(boxes[:, :2], 0)
    end = np.minimum(image_wh - 1, start + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([start, end - start], axis=1), (end > start).all(axis=1)
