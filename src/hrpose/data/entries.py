"""The entries of a COCO file, checked and repaired by the table in `hrpose.data.rules`.

`choose_category`, `of_category`, `check_images` and `check_annotations` are the only places that
apply it to annotation files. What they return has the entries that can be used, with their repairs,
and notes about the odd ones. The entries of the file are never changed; a repaired one is a copy.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data import rules
from hrpose.data.rules import (
    BROKEN,
    Check,
    Checked,
    Entry,
    Note,
    Problem,
    Rule,
    as_number,
    printable,
    shown,
)
from hrpose.errors import UserError
from hrpose.geometry import box_of_keypoints
from hrpose.skeleton import Skeleton
from hrpose.skeletons import from_coco_category, limbs_of

# The size of an image whose file has to tell it; its boxes are not cut to it.
_UNKNOWN_WH = (65535, 65535)


def check_images(
    path: Path, lenient: bool, entries: Sequence[Entry], sized: bool = True
) -> tuple[Checked, dict[Any, int]]:
    """The columns `image_ids`, `file_names`, `image_wh` and `sources`; and the row of each `id`.

    Unless `sized`, images may lack their size, which is (0, 0) then.
    """
    check = Check(path, lenient, "image", entries)
    names = check.column(rules.FILE_NAME)
    for row, name in enumerate(names):
        if b"\\" in name:
            names[row] = name.replace(b"\\", b"/")
            check.note(row, rules.BACKSLASH, file_name=names[row].decode())
    sides, known = [], np.ones(len(names), np.bool_)
    for rule in (rules.WIDTH, rules.HEIGHT):
        values = [entry.get(rule.field) for entry in check.entries]
        if not sized:
            valid = [_is_side(rule, value) for value in values]
            values = [value if ok else 1 for value, ok in zip(values, valid, strict=True)]
            known &= np.asarray(valid, np.bool_)
        sides.append(check.column(rule, values))
    image_wh = np.stack(sides, axis=1).astype(np.int32).reshape(-1, 2)
    image_wh[~known] = 0
    keys, ids = _image_ids(check, names)
    _note_repeated_files(check, names)
    sources = [str(entry.get("source", "")).encode(errors="replace") for entry in check.entries]
    columns = {
        "image_ids": np.asarray(ids, np.int64),
        "file_names": np.asarray(names, np.bytes_),
        "image_wh": image_wh,
        "sources": np.asarray(sources, np.bytes_),
        "keys": np.arange(len(keys)),
    }
    checked = check.finish(columns)
    order = checked.columns.pop("keys").tolist()
    return checked, {keys[key]: row for row, key in enumerate(order)}


def _is_side(rule: Rule, value: Any) -> bool:
    try:
        rule.read(as_number(value))
    except BROKEN:
        return False
    return True


def _note_repeated_files(check: Check, names: Sequence[bytes]) -> None:
    """Images of different ids with one file: each may have only some of its persons."""
    if len(set(names)) == len(names):
        return
    seen: set[bytes] = set()
    listed = check.odd.get(rules.IMAGE_REPEATED, {})
    for row, name in enumerate(names):
        if name in seen and row not in listed:
            check.note(row, rules.FILE_REPEATED)
        seen.add(name)


def _image_ids(check: Check, names: Sequence[bytes]) -> tuple[list[Any], list[int]]:
    """The key by which annotations name each image, and its id, a whole number."""
    values = [entry.get("id") for entry in check.entries]
    whole = rules.ID.many(values)
    if whole is not None and len(set(ids := np.asarray(whole).tolist())) == len(ids):
        return ids, ids
    keys: list[Any] = [_key(check, row, value) for row, value in enumerate(values)]
    first: dict[Any, int] = {}
    for row, key in enumerate(keys):
        if key is None or first.setdefault(key, row) == row:
            continue
        if names[row] == names[first[key]]:
            check.note(row, rules.IMAGE_REPEATED)
        else:
            for same in (row, first[key]):
                check.problem(same, "id", "an id that no other image has", f"{key} twice")
    numbers = [key for key in keys if isinstance(key, int)]
    new = max(numbers, default=0) + 1
    ids = []
    for row, key in enumerate(keys):
        if isinstance(key, int):
            ids.append(key)
            continue
        ids.append(new)
        new += 1
        if key is not None:
            check.note(row, rules.ID_NEW, id=ids[-1])
    return keys, ids


def _key(check: Check, row: int, value: Any) -> Any:
    """A whole number, or the text of another id; None where there is none."""
    if value is None or isinstance(value, list | dict):
        check.note(row, rules.IMAGE_WITHOUT_ID)
        return None
    key = rules.id_key(value)
    if isinstance(value, str) and isinstance(key, int):
        check.note(row, rules.NUMBER_AS_TEXT, id=key)
    return key


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
    """(n, 4); a box without size is made from the keypoints, without these nobody is labeled."""
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


@dataclass(frozen=True, slots=True)
class Category:
    """The category with keypoints: its skeleton, its entry and its id; `notes` are about it."""

    skeleton: Skeleton
    entry: Entry
    number: int
    notes: tuple[Note, ...]


def with_keypoints(categories: Sequence[Entry]) -> list[Entry]:
    """The categories that have keypoints."""
    return [category for category in categories if category.get("keypoints")]


def choose_category(path: Path, entries: Sequence[Entry], chosen: str | None) -> Category:
    """The one category with keypoints, or the one of several that is `chosen` by its name or id.

    Raises UserError where there is no such category, or it is invalid.
    """
    found = everything = with_keypoints(entries)
    names = ", ".join(f"'{printable(str(c.get('name')))}'" for c in everything)
    if chosen is not None:
        found = [c for c in everything if c.get("name") == chosen]
        if len(found) != 1:  # An id tells two categories of one name apart.
            found = [c for c in everything if str(c.get("id")) == chosen]
        if len(found) != 1:
            raise UserError(
                f"{path}: --category {chosen}: expected one of the categories with keypoints "
                f"({names or 'none'}), by its name or id",
                code="category-unknown",
            )
    if not found:
        raise UserError(
            f"{path}: 'categories': expected one category with 'keypoints', found none",
            code="annotations-invalid",
        )
    if len(found) > 1:
        same = all(c["keypoints"] == found[0]["keypoints"] for c in found)
        raise UserError(
            f"{path}: 'categories': expected one with 'keypoints', found {len(found)}: {names}; "
            "choose one with --category"
            f"{', or read them as one with --merge-categories' * same}",
            code="category-unknown",
        )
    try:
        skeleton, notes = _read_category(found[0])
    except BROKEN as error:
        raise UserError(f"{path}: 'categories': {error}", code="annotations-invalid") from error
    return Category(skeleton, found[0], category_id(path, found[0]), tuple(notes))


def category_id(path: Path, category: Entry) -> int:
    """The id of a category. Raises UserError where it is no whole number."""
    number = whole_number(category.get("id"))
    if number is None:
        raise UserError(
            f"{path}: 'categories': expected a whole 'id', found {shown(category.get('id'))}",
            code="annotations-invalid",
        )
    return number


def category_ids(categories: Sequence[Entry]) -> set[int]:
    """The ids of all categories that have one."""
    found = (whole_number(category.get("id")) for category in categories)
    return {number for number in found if number is not None}


def whole_number(value: Any) -> int | None:
    """A whole number, also as text; None for anything else."""
    try:
        number: int = rules.CATEGORY_ID.read(as_number(value))
    except BROKEN:
        return None
    return number


def _read_category(category: Entry) -> tuple[Skeleton, list[Note]]:
    names = category["keypoints"]
    if not isinstance(names, list) or not all(map(_is_name, names)):
        raise ValueError(f"expected 'keypoints' to be a list of names, found {shown(names)}")
    skeleton = from_coco_category(category)
    notes = []
    given = [str(name) for name in category["keypoints"]]
    if given != list(skeleton.keypoints):
        pairs = zip(given, skeleton.keypoints, strict=True)
        name = next(f"{own} for {known}" for own, known in pairs if own != known)
        detail = f"{shown(name)}: {skeleton.name}"
        notes.append(Note.about(rules.NAMES_SPELLED, "category", [category], detail))
    elif skeleton.limbs and category.get("skeleton"):
        _, from_0, dropped = limbs_of(category["skeleton"], len(skeleton))
        if from_0:
            notes.append(Note.about(rules.LIMBS_FROM_0, "category", [category]))
        if dropped:
            detail = f"such as {shown(dropped[0])}"
            notes.append(Note.about(rules.LIMBS_DROPPED, "category", [category], detail))
    return skeleton, notes


def _is_name(name: Any) -> bool:
    """Whether it names a keypoint: text, or a number, as some tools write."""
    return isinstance(name, str | int) and bool(str(name).strip())


def of_category(
    lenient: bool, entries: Sequence[Entry], chosen: Sequence[int], known: set[int]
) -> tuple[list[Entry], list[Problem], list[Note]]:
    """The entries of the `chosen` categories; problems and notes about ids that are not `known`."""
    found: list[Entry] = []
    text, unknown = [], []
    first = chosen[0] if chosen else None
    for entry in entries:
        given = entry.get("category_id")
        if given == first:
            found.append(entry)
            continue
        number = whole_number(given)
        if number in chosen:
            if isinstance(given, str):
                text.append(entry)
                entry = {**entry, "category_id": number}
            found.append(entry)
        elif number is None or number not in known:
            unknown.append(entry)
    kind = rules.NUMBER_AS_TEXT
    notes = [Note.about(kind, "annotation", text)] if text else []
    problems = [Problem.of_kind(kind, "annotation", entry) for entry in text]
    if unknown:
        kind = rules.CATEGORY_UNKNOWN
        expected = ", ".join(map(str, sorted(known)))
        counts = Counter(shown(entry.get("category_id")) for entry in unknown)
        ids = ", ".join(f"{value} ({count})" for value, count in counts.most_common(3))
        detail = f"category_id {ids}{', ...' * (len(counts) > 3)}; 'categories' have {expected}"
        notes.append(Note.about(kind, "annotation", unknown, detail))
        for entry in unknown:
            own = f" ({expected}), but {shown(entry.get('category_id'))}"
            problems.append(Problem.of_kind(kind, "annotation", entry, own))
    return found, problems if lenient else [], notes
