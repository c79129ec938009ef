"""The rules for entries of a COCO file: what a field must be, and what becomes of an odd entry.

Every view of a COCO file uses these, so that no two commands disagree about a file. `KINDS` is the
table of odd entries, `Note` the one line in which a command reports those of a kind. An entry that
breaks a `Rule` without being of a kind in the table is refused: strict reading raises UserError,
lenient reading leaves it out as a `Problem`. The page `docs/reference/annotation-files.md` lists
all of this for users.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.data.images import stays_inside
from hrpose.errors import UserError

_LARGEST = 65535  # pixels, the most that a JPEG can have
_LARGEST_ID = 2**63 - 1
_INFINITE = 1e300  # larger than any number of an annotation
_FARTHEST = 1e9  # pixels; what is farther away is no place, and no number of 32 bits
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)

Entry = dict[str, Any]


class Outcome(StrEnum):
    """What becomes of an odd entry: it is used as it is, in part changed, or not used."""

    accepted = "accepted"
    repaired = "repaired"
    left_out = "left out"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of odd entries: how they are described, and what is done with them."""

    name: str
    outcome: Outcome
    found: str
    done: str


NUMBER_AS_TEXT = Kind("number-as-text", Outcome.repaired, "with a number as text", "read as number")
BACKSLASH = Kind("backslash", Outcome.repaired, "with \\ in 'file_name'", "read as /")
ID_NEW = Kind(
    "id-new",
    Outcome.repaired,
    "with an 'id' that is absent, no whole number, or not unique",
    "numbered anew",
)
IMAGE_WITHOUT_ID = Kind(
    "image-without-id", Outcome.left_out, "without 'id'", "left out, as no annotation can name it"
)
IMAGE_REPEATED = Kind(
    "image-repeated", Outcome.left_out, "listed again with the same 'id' and file", "used once"
)
CATEGORY_UNKNOWN = Kind(
    "category-unknown",
    Outcome.left_out,
    "with a 'category_id' that is not in 'categories'",
    "left out; correct it, or the 'id' of the category",
)
NOBODY = Kind(
    "nobody", Outcome.left_out, "with neither keypoints nor a box", "left out, as nobody is labeled"
)
BOX_MADE = Kind(
    "box-made",
    Outcome.repaired,
    "without a 'bbox' of 4 numbers and a size",
    "the box is made from the keypoints and marked 'bbox_guessed'",
)
AREA_OF_BOX = Kind(
    "area-of-box", Outcome.repaired, "without an 'area' above 0", "the area of the box is used"
)
KEYPOINTS_NESTED = Kind(
    "keypoints-nested", Outcome.repaired, "with a list for each keypoint", "read as one list"
)
KEYPOINT_EMPTY = Kind(
    "keypoint-empty",
    Outcome.repaired,
    "with null or NaN for keypoints of visibility 0",
    "read as not labeled",
)
VISIBILITY = Kind(
    "visibility",
    Outcome.repaired,
    "with a visibility other than 0, 1 and 2",
    "above 0 is read as visible, else as not labeled",
)
NUM_KEYPOINTS = Kind(
    "num-keypoints",
    Outcome.repaired,
    "whose 'num_keypoints' is not the number of labeled keypoints",
    "these are counted",
)
BOX_OUTSIDE = Kind(
    "box-outside",
    Outcome.left_out,
    "whose box shows nothing of the image",
    "not used for training, and missed in the AP",
)
FILE_REPEATED = Kind(
    "file-repeated",
    Outcome.accepted,
    "with the 'file_name' of another image",
    "used as an image of its own; 'hrpose data convert' makes them one",
)
CORNERS = Kind(
    "corners",
    Outcome.accepted,
    "whose 'bbox' fits the image as [x1, y1, x2, y2] only",
    "used, but expected [x, y, width, height]",
)
SHARES = Kind(
    "shares",
    Outcome.accepted,
    "whose keypoints are all within one pixel of (0, 0)",
    "used, but they look like shares of the image; expected pixels",
)
LIMBS_FROM_0 = Kind(
    "limbs-from-0", Outcome.repaired, "whose 'skeleton' counts keypoints from 0", "counted from 0"
)
LIMBS_DROPPED = Kind(
    "limbs-dropped",
    Outcome.repaired,
    "with limbs in 'skeleton' that do not connect two of its keypoints",
    "these limbs are dropped",
)
NAMES_SPELLED = Kind(
    "names-spelled",
    Outcome.repaired,
    "whose keypoint names differ from those of a shipped skeleton in spelling only",
    "read as that skeleton",
)

# All of these, in the order of reports.
KINDS = tuple(kind for kind in vars().copy().values() if isinstance(kind, Kind))


@dataclass(frozen=True, slots=True)
class Note:
    """The `count` odd entries of a `kind`; they are images, annotations or categories (`of`).

    `examples` are the first few as text, `detail` adds to the description. As text it is one line.
    """

    kind: Kind
    of: str
    count: int
    examples: tuple[str, ...] = ()
    detail: str = ""

    @classmethod
    def about(cls, kind: Kind, of: str, entries: list[Entry], detail: str = "") -> "Note":
        """The note about these entries."""
        ids = (shown(entry.get("id")) for entry in entries[:3])
        return cls(kind, of, len(entries), tuple(ids), detail)

    def __str__(self) -> str:
        plural = f"{self.of.removesuffix('y')}ies" if self.of.endswith("y") else f"{self.of}s"
        noun = self.of if self.count == 1 else plural
        examples = ", ".join(self.examples) + ", ..." * (self.count > len(self.examples))
        more = f"; {self.detail}" if self.detail else ""
        return f"{self.count:,} {noun} {self.kind.found} (id {examples}{more}): {self.kind.done}"


def note_lines(path: Path, notes: Iterable[object]) -> tuple[str, ...]:
    """The lines in which a command reports notes about a file; empty ones are left out."""
    return tuple(f"{path}: {line}" for line in map(str, notes) if line)


@dataclass(frozen=True, slots=True)
class Rule:
    """What one `field` of an entry must be, in words and as code.

    `read` returns the checked value, and raises one of `BROKEN` for an invalid one. `many` checks a
    whole column at once, and returns None where a value may be invalid. `blank` stands for an
    invalid value until its entry is left out, `remedy` ends the message about it.
    """

    field: str
    expected: str
    read: Callable[[Any], Any]
    many: Callable[[list[Any]], Any] = lambda values: None
    blank: Any = 0
    remedy: str = ""


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


def as_number(value: Any) -> Any:
    """A number, or a list of numbers, that is given as text. Raises ValueError for other text."""
    if isinstance(value, list):
        return [as_number(each) for each in value]
    if not isinstance(value, str):
        return value
    if not _NUMBER.fullmatch(value):
        raise ValueError(value)
    return int(value) if value.strip().isdecimal() else float(value)


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
    replace(
        number_rule(side, f"a whole number from 1 to {_LARGEST}", low=1, high=_LARGEST, whole=True),
        remedy="; 'hrpose data convert coco' reads the size from the image",
    )
    for side in ("width", "height")
)
BBOX = number_rule("bbox", "4 finite numbers", count=4, low=-_FARTHEST, high=_FARTHEST)
AREA = number_rule("area", "a number of at least 0", low=0)
SCORE = number_rule("score", "a finite number")
TRUST = number_rule("trust", "a number from 0 to 1", low=0, high=1)


def _crowd(value: Any) -> bool:
    if value is not None and not isinstance(value, int | float):
        raise ValueError(value)
    return bool(value)


CROWD = Rule("iscrowd", "0 or 1", _crowd, blank=False)


def keypoints_rule(k: int) -> Rule:
    """x, y and visibility of k keypoints."""
    expected = f"{3 * k} finite numbers below 1e9"
    return number_rule("keypoints", expected, count=3 * k, low=-_FARTHEST, high=_FARTHEST)


def id_key(value: Any) -> Any:
    """A whole number, or the text of another id."""
    try:
        return ID.read(as_number(value))
    except BROKEN:
        return str(value)


def image_rule(rows: Mapping[Any, int]) -> Rule:
    """The id of one of the images; the checked value is its row in `rows`."""

    def read(value: Any) -> int:
        return rows[value] if value in rows else rows[id_key(value)]

    def many(values: list[Any]) -> Any:
        try:
            return [rows[value] for value in values]
        except (KeyError, TypeError):
            return None

    return Rule("image_id", "the 'id' of one of the 'images'", read, many)


@dataclass(frozen=True, slots=True)
class Problem:
    """An `entry`, an "image" or "annotation" (`of`), that is refused: its `field` breaks a rule.

    With lenient reading also one that is `odd`, and the field is the name of that kind.
    """

    of: str
    field: str
    entry: Entry
    message: str
    odd: Kind | None = None

    @classmethod
    def of_kind(cls, kind: Kind, of: str, entry: Entry, detail: str = "") -> "Problem":
        """The problem of an odd entry."""
        message = f"{of} {shown(entry.get('id'))}: {kind.found}{detail}; {kind.done}"
        return cls(of, kind.name, entry, message, kind)


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """The `entries` that are used and their values as `columns`.

    `problems` are the entries that were refused, one for each, and with lenient reading the odd
    ones; `notes` are about those.
    """

    entries: list[Entry]
    columns: dict[str, NDArray[Any]]
    problems: list[Problem]
    notes: tuple[Note, ...] = ()

    def select(self, mask: NDArray[np.bool_]) -> "Checked":
        """The entries of a mask; problems and notes stay."""
        if mask.all():
            return self
        rows = np.flatnonzero(mask).tolist()
        columns = {name: column[mask] for name, column in self.columns.items()}
        return Checked([self.entries[row] for row in rows], columns, self.problems, self.notes)


class Check:
    """Checks the entries of one kind, field by field."""

    def __init__(
        self,
        path: Path,
        lenient: bool,
        kind: str,
        entries: Sequence[Entry],
        code: str = "annotations-invalid",
    ) -> None:
        self.path, self.lenient, self.kind, self.code = path, lenient, kind, code
        self.given = entries
        self.entries = list(entries)
        self.problems: dict[int, Problem] = {}
        self.odd: dict[Kind, dict[int, None]] = {}

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
                checked.append(self._from_text(row, rule, value))
        return checked

    def _from_text(self, row: int, rule: Rule, value: Any) -> Any:
        """The checked value of a number that is given as text; a problem where it is no number."""
        try:
            number = as_number(value)
            checked = rule.read(number)
        except BROKEN:
            self.problem(row, rule.field, rule.expected, value, rule.remedy)
            return rule.blank
        self.note(row, NUMBER_AS_TEXT, **{rule.field: number})
        return checked

    def note(self, row: int, kind: Kind, **repaired: Any) -> None:
        """Note an odd entry, and replace fields of it."""
        self.odd.setdefault(kind, {})[row] = None
        self.replace(row, **repaired)

    def replace(self, row: int, **fields: Any) -> None:
        """Replace fields of an entry."""
        if fields:
            self.entries[row] = {**self.entries[row], **fields}

    def problem(self, row: int, field: str, expected: str, found: object, remedy: str = "") -> None:
        """Raise UserError for an entry; with lenient reading, record its first problem instead."""
        entry = self.given[row]
        where = f"{self.kind} {shown(entry.get('id', row))}: '{field}'"
        message = f"{where}: expected {expected}, found {shown(found)}{remedy}"
        if not self.lenient:
            raise UserError(f"{self.path}: {message}", code=self.code)
        self.problems.setdefault(row, Problem(self.kind, field, entry, message))

    def finish(self, columns: dict[str, NDArray[Any]]) -> Checked:
        """The entries and `columns` without those that have a problem or are left out."""
        if not self.problems and not self.odd:
            return Checked(self.entries, columns, [])
        gone = set(self.problems)
        notes, odd = {}, []
        # A repair of an entry that is left out is not worth a note.
        for kind in sorted(self.odd, key=lambda kind: kind.outcome is not Outcome.left_out):
            own = [row for row in sorted(self.odd[kind]) if row not in gone]
            if kind.outcome is Outcome.left_out:
                gone.update(own)
            if own:
                given = [self.given[row] for row in own]
                notes[kind] = Note.about(kind, self.kind, given)
                odd += [Problem.of_kind(kind, self.kind, entry) for entry in given]
        valid = [row for row in range(len(self.entries)) if row not in gone]
        refused = [self.problems[row] for row in sorted(self.problems)]
        return Checked(
            [self.entries[row] for row in valid],
            {name: column[valid] for name, column in columns.items()},
            [*refused, *(odd if self.lenient else ())],
            tuple(notes[kind] for kind in KINDS if kind in notes),
        )


def shown(found: object) -> str:
    """A value for a message, about 80 characters at most; of a list also its length."""
    count = f"{len(found):,} values, " if isinstance(found, list) and len(found) > 5 else ""
    return "nothing" if found is None else f"{count}{printable(str(found))}"


def printable(text: str) -> str:
    """Untrusted text for a message: one line, about 80 characters at most."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:80])
    return f"{plain}..." if len(text) > 80 else plain
