"""The images and categories of a COCO file, checked and repaired by `hrpose.data.rules`.

`choose_category`, `of_category` and `check_images`, and `hrpose.data.persons.check_annotations`,
are the only places that apply its table to annotation files. What they return has the entries that
can be used, with their repairs, and notes about the odd ones. The entries of the file are never
changed; a repaired one is a copy.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
from hrpose.skeleton import Skeleton
from hrpose.skeletons import from_coco_category, limbs_of


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
    names = ", ".join(_named(category, everything) for category in everything)
    if chosen is not None:
        found = [c for c in everything if c.get("name") == chosen]
        if len(found) != 1:
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


def _named(category: Entry, among: Sequence[Entry]) -> str:
    """The name of a category in a message, with the id where others have this name too."""
    name = category.get("name")
    alone = sum(other.get("name") == name for other in among) == 1
    return f"'{printable(str(name))}'" + ("" if alone else f" (id {shown(category.get('id'))})")


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


def as_one_category(
    path: Path, categories: list[Entry], annotations: list[Entry]
) -> tuple[list[Entry], list[Entry]]:
    """Categories and annotations with all categories that have keypoints as one, the first of them.

    Its name is their supercategory, or their names where they have none in common. Raises UserError
    where their keypoints differ.
    """
    first, *others = merged = with_keypoints(categories) or [{}]
    for other in others:
        if other["keypoints"] != first["keypoints"]:
            raise UserError(
                f"{path}: --merge-categories: expected categories with the same keypoints, found "
                f"others in '{other.get('name')}' than in '{first.get('name')}'; choose one with "
                "--category",
                code="keypoints-differ",
            )
    if not others:
        return categories, annotations
    ids = category_ids(merged)
    kinds = {category.get("supercategory") for category in merged}
    name = kinds.pop() if len(kinds) == 1 else None
    one = {**first, "name": name or "+".join(str(c.get("name")) for c in merged)}
    own = [
        {**entry, "category_id": first.get("id")}
        if whole_number(entry.get("category_id")) in ids
        else entry
        for entry in annotations
    ]
    return [one, *(c for c in categories if not c.get("keypoints"))], own


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
