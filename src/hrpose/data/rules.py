"""The rules for entries of a COCO file, and how they are applied.

Every view of a COCO file uses these, so that no two of them disagree about a file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.images import stays_inside
from hrpose.errors import UserError

_LARGEST = 65535  # pixels, the most that a JPEG can have
_LARGEST_ID = 2**63 - 1
_INFINITE = 1e300  # larger than any number of an annotation

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one `field` of an entry must be, in words and as code.

    `read` returns the checked value, and raises one of `BROKEN` for an invalid one. `many` checks a
    whole column at once, and returns None where a value may be invalid. `blank` stands for an
    invalid value until its entry is left out.
    """

    field: str
    expected: str
    read: Callable[[Any], Any]
    many: Callable[[list[Any]], Any] = lambda values: None
    blank: Any = 0


BROKEN = (KeyError, TypeError, ValueError, OverflowError)


def number_rule(
    field: str,
    expected: str,
    count: int | None = None,
    low: float = -_INFINITE,
    high: float = _INFINITE,
    whole: bool = False,
) -> Rule:
    """A number from `low` to `high`, or with `count` a list of that many; text is no number."""

    def one(value: Any) -> int | float:
        if not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(value)
        if whole and value != int(value):
            raise ValueError(value)
        return int(value) if whole else float(value)

    def read(value: Any) -> Any:
        if count is None:
            return one(value)
        if not isinstance(value, list) or len(value) != count:
            raise ValueError(value)
        return [one(each) for each in value]

    def many(values: list[Any]) -> Any:
        try:
            array = np.asarray(values)
        except (ValueError, OverflowError):  # lists of several lengths
            return None
        shape = (len(values),) if count is None else (len(values), count)
        # Text, None and numbers beyond 64 bits make arrays of other kinds.
        if array.dtype.kind not in ("iu" if whole else "iuf") or array.shape != shape:
            return None
        return array if ((array >= low) & (array <= high)).all() else None

    return Rule(field, expected, read, many, 0 if count is None else [0] * count)


def _relative_path(value: Any) -> bytes:
    if not isinstance(value, str) or not stays_inside(value):
        raise ValueError(value)
    return value.encode()


ID = number_rule("id", "a whole number", low=0, high=_LARGEST_ID, whole=True)
IMAGE_ID, CATEGORY_ID = (
    number_rule(field, "a whole number", low=-_LARGEST_ID, high=_LARGEST_ID, whole=True)
    for field in ("image_id", "category_id")
)
FILE_NAME = Rule("file_name", "a relative path without '..'", _relative_path, blank=b"")
WIDTH, HEIGHT = (
    number_rule(side, f"a whole number from 1 to {_LARGEST}", low=1, high=_LARGEST, whole=True)
    for side in ("width", "height")
)
BBOX = number_rule("bbox", "4 finite numbers", count=4)
AREA = number_rule("area", "a number of at least 0", low=0)
SCORE = number_rule("score", "a finite number")
TRUST = number_rule("trust", "a number from 0 to 1", low=0, high=1)


def keypoints_rule(k: int) -> Rule:
    """x, y and visibility of k keypoints."""
    return number_rule("keypoints", f"{3 * k} finite numbers", count=3 * k)


def image_rule(rows: Mapping[int, int]) -> Rule:
    """The id of one of the images; the checked value is its row in `rows`."""

    def many(values: list[Any]) -> Any:
        try:
            return [rows[value] for value in values]
        except (KeyError, TypeError):
            return None

    return Rule("image_id", "the 'id' of one of the 'images'", rows.__getitem__, many)


@dataclass(frozen=True, slots=True)
class Problem:
    """An `entry` of a `kind`, "image" or "annotation", whose `field` breaks a rule."""

    kind: str
    field: str
    entry: Entry
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """The valid `entries`, their values as `columns`, and one of the `problems` for each other."""

    entries: list[Entry]
    columns: dict[str, NDArray[Any]]
    problems: list[Problem]


class Check:
    """Checks the entries of one kind, field by field."""

    def __init__(
        self,
        path: Path,
        lenient: bool,
        kind: str,
        entries: list[Entry],
        code: str = "annotations-invalid",
    ) -> None:
        self.path, self.lenient, self.kind, self.entries = path, lenient, kind, entries
        self.code = code
        self.problems: dict[int, Problem] = {}

    def column(self, rule: Rule, values: list[Any] | None = None) -> Any:
        """The checked values of a field: those of the entries, unless `values` are given."""
        if values is None:
            values = [entry.get(rule.field) for entry in self.entries]
        checked = rule.many(values)
        if checked is not None:
            return checked
        checked = []
        for row, value in enumerate(values):
            try:
                checked.append(rule.read(value))
            except BROKEN:
                self.problem(row, rule.field, rule.expected, value)
                checked.append(rule.blank)
        return checked

    def ids(self) -> Any:
        """The entries' ids, all different."""
        ids = self.column(ID)
        if len(set(numbers := np.asarray(ids).tolist())) < len(ids):
            seen: set[int] = set()
            for row, number in enumerate(numbers):
                if number in seen:
                    self.problem(row, "id", "an id that no other entry has", f"{number} twice")
                elif row not in self.problems:
                    seen.add(number)
        return ids

    def problem(self, row: int, field: str, expected: str, found: object) -> None:
        """Raise UserError for an entry; with lenient reading, record its first problem instead."""
        entry = self.entries[row]
        where = f"{self.kind} {entry.get('id', row)}: '{field}'"
        message = f"{where}: expected {expected}, found {shown(found)}"
        if not self.lenient:
            raise UserError(f"{self.path}: {message}", code=self.code)
        self.problems.setdefault(row, Problem(self.kind, field, entry, message))

    def finish(self, columns: dict[str, NDArray[Any]]) -> Checked:
        """The entries and `columns` without those that have a problem."""
        if not self.problems:
            return Checked(self.entries, columns, [])
        valid = [row for row in range(len(self.entries)) if row not in self.problems]
        return Checked(
            [self.entries[row] for row in valid],
            {name: column[valid] for name, column in columns.items()},
            [self.problems[row] for row in sorted(self.problems)],
        )


def shown(found: object) -> str:
    """A value for a message, about 80 characters at most."""
    return "nothing" if found is None else printable(str(found))


def printable(text: str) -> str:
    """Untrusted text for a message: one line, about 80 characters at most."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:80])
    return f"{plain}..." if len(text) > 80 else plain
