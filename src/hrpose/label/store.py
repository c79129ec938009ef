"""The labels of a project in one SQLite file.

Every change is a transaction that is on the disk before it is confirmed, so that a process that is
killed loses nothing that it confirmed. Every row has a version: a change names the one that it was
made from, and is refused where somebody else's came first (docs/decisions/0042).
"""

import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrpose.errors import UserError

# In the header of the file: that it is one of these, and of which form.
APPLICATION, FORM = 0x68727073, 1
# Of a keypoint: not in the image or not to be seen, hidden, visible; the last two are COCO's.
OUTSIDE, HIDDEN, VISIBLE = 0, 1, 2
_TABLES = """
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE images (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, width INTEGER, height INTEGER,
    video TEXT NOT NULL DEFAULT '', done INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0, by TEXT NOT NULL DEFAULT '', change TEXT,
    revision INTEGER NOT NULL DEFAULT 0);
CREATE TABLE persons (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    image INTEGER NOT NULL REFERENCES images(id), version INTEGER NOT NULL, value TEXT,
    by TEXT NOT NULL, change TEXT NOT NULL, at REAL NOT NULL, revision INTEGER NOT NULL);
CREATE INDEX persons_image ON persons(image);
CREATE INDEX images_revision ON images(revision);
CREATE TABLE verdicts (image INTEGER NOT NULL, finding TEXT NOT NULL, by TEXT NOT NULL,
    PRIMARY KEY (image, finding)) WITHOUT ROWID;
CREATE TABLE predictions (image INTEGER PRIMARY KEY, model TEXT NOT NULL, value TEXT NOT NULL);
"""

# (x, y, state) in pixels, or None where it is not labeled yet.
Keypoint = tuple[float, float, int] | None


@dataclass(frozen=True, slots=True)
class Label:
    """The label of one person: `box` [x, y, w, h] in pixels, None where it follows the keypoints;
    and each of the skeleton's `keypoints`.
    """

    box: tuple[float, float, float, float] | None
    keypoints: tuple[Keypoint, ...]

    def to_json(self) -> str:
        """The label as a row of the file has it."""
        return json.dumps({"box": self.box, "keypoints": self.keypoints}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Label":
        """The label that `to_json` wrote. Raises ValueError for what is none."""
        read = json.loads(text)
        if not isinstance(read, dict):
            raise ValueError("no label")
        return cls.checked(read.get("box"), read.get("keypoints"))

    @classmethod
    def checked(cls, box: Any, keypoints: Any) -> "Label":
        """A label of plain lists. Raises ValueError for numbers that are missing or not finite."""
        if box is not None:
            box = tuple(_number(value) for value in box)
            if len(box) != 4 or box[2] <= 0 or box[3] <= 0:
                raise ValueError("box: expected [x, y, w, h] with a width and height above 0")
        points: list[Keypoint] = []
        for point in keypoints:
            if point is None:
                points.append(None)
                continue
            x, y, state = point
            if state not in (OUTSIDE, HIDDEN, VISIBLE):
                raise ValueError("keypoint: expected the state 0, 1 or 2")
            points.append((_number(x), _number(y), int(state)))
        return cls(box, tuple(points))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected a finite number")
    if abs(value) > 1e6:
        raise ValueError("expected a position near the image")
    return round(float(value), 3)


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image of the project: its `name` below the folder, the clip `video` that it is a frame of,
    its size where it is known, whether it is `done`, and its version.
    """

    id: int
    name: str
    width: int | None
    height: int | None
    video: str
    done: bool
    version: int
    by: str


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A person of an image; `label` is None where the person was deleted.

    `number` is its id in COCO files, `id` the one that the page gave it. `by` is who changed it
    last, and `at` when, in seconds since 1970.
    """

    number: int
    id: str
    image: int
    version: int
    label: Label | None
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Change:
    """One change: of a person of an image, or whether the image is `done`.

    `version` is the one that it was made from, 0 for a new person. `person` None changes `done`.
    `id` names the change, so that one that is sent twice counts once.
    """

    id: str
    image: int
    version: int
    person: str | None = None
    label: Label | None = None
    done: bool = False


class Conflict(Exception):
    """A change was made from an older version: `persons` and `images` are what is there now."""

    def __init__(self, persons: list[PersonRow], images: list[ImageRow]) -> None:
        super().__init__("somebody else's change came first")
        self.persons = persons
        self.images = images


_PERSON = "number, id, image, version, value, by, at"
_IMAGE = "id, name, width, height, video, done, version, by"


class Store:
    """The labels of a project. Methods may be called from several threads.

    One process at a time has the file; it raises UserError [folder-locked] for others, and
    [project-invalid] where the file is none of these.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            # No transactions that begin by themselves.
            self._db = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            self._open()
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(error) from error
        except UserError:
            self._db.close()
            raise

    def _open(self) -> None:
        # The file may come from somebody else: nothing in its schema is run.
        self._db.execute("PRAGMA trusted_schema = OFF")
        # One process at a time; without memory that is shared between processes, which WAL would
        # need, the file may be on a network's disk too.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (form,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            script = f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {APPLICATION};"
            self._db.executescript(f"{script} PRAGMA user_version = {FORM}; COMMIT;")
        elif (application, form) != (APPLICATION, FORM):
            raise UserError(
                f"{self.path}: expected labels of this version of hrpose, found another file; "
                "move it away, or update hrpose",
                code="project-invalid",
            )
        self._db.execute("BEGIN EXCLUSIVE")  # takes the lock, which lasts
        self._db.execute("COMMIT")

    def _unusable(self, error: sqlite3.Error) -> UserError:
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return UserError(
                f"{self.path}: another process labels this folder; use its page, or stop it",
                code="folder-locked",
            )
        if getattr(error, "sqlite_errorcode", None) in (
            sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL,
        ):  # fmt: skip
            return UserError(
                f"{self.path}: cannot be written ({error}); label in a folder that can be",
                code="write-failed",
            )
        return UserError(
            f"{self.path}: expected labels of hrpose, found damage ({error}); move it away",
            code="project-invalid",
        )

    def close(self) -> None:
        """Give the file free for other processes."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is on the disk at the end, or nothing after an error."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    # ---- settings ---------------------------------------------------------------------------

    def setting(self, key: str) -> Any:
        """The value of a setting; None where it was never set."""
        with self._lock:
            row = self._db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, key: str, value: Any) -> None:
        """Keep a setting that JSON can hold."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, json.dumps(value)))

    # ---- images -----------------------------------------------------------------------------

    def add_images(self, names: Sequence[tuple[str, str]]) -> None:
        """Add images by (name, video); those that are known stay as they are."""
        with self._writing() as db:
            db.executemany("INSERT OR IGNORE INTO images (name, video) VALUES (?, ?)", names)

    def set_size(self, image: int, size_wh: tuple[int, int]) -> None:
        """The size of an image, once it is known."""
        with self._writing() as db:
            db.execute("UPDATE images SET width = ?, height = ? WHERE id = ?", (*size_wh, image))

    def images(self) -> list[ImageRow]:
        """All images."""
        with self._lock:
            rows = self._db.execute(f"SELECT {_IMAGE} FROM images").fetchall()
        return [_image(row) for row in rows]

    def image(self, image: int) -> ImageRow | None:
        """An image by its id."""
        with self._lock:
            row = self._db.execute(f"SELECT {_IMAGE} FROM images WHERE id = ?", (image,)).fetchone()
        return None if row is None else _image(row)

    def changed_images(self, after: int) -> list[int]:
        """The images with changes after a revision."""
        with self._lock:
            rows = self._db.execute("SELECT id FROM images WHERE revision > ?", (after,))
            return [image for (image,) in rows.fetchall()]

    @property
    def revision(self) -> int:
        """The number of the last change of all."""
        with self._lock:
            (last,) = self._db.execute("SELECT coalesce(max(revision), 0) FROM images").fetchone()
        return int(last)

    # ---- persons ----------------------------------------------------------------------------

    def persons(self, image: int | None = None) -> list[PersonRow]:
        """The persons of an image, or of all, without deleted ones, in the order they were made."""
        where = "value IS NOT NULL" + ("" if image is None else " AND image = ?")
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_PERSON} FROM persons WHERE {where} ORDER BY number",
                () if image is None else (image,),
            ).fetchall()
        return [_person(row) for row in rows]

    def counts(self) -> dict[int, int]:
        """The number of persons of each image that has some."""
        with self._lock:
            rows = self._db.execute(
                "SELECT image, count(*) FROM persons WHERE value IS NOT NULL GROUP BY image"
            )
            return dict(rows.fetchall())

    def apply(
        self, changes: Sequence[Change], by: str
    ) -> tuple[int, list[PersonRow], list[ImageRow]]:
        """Make all of the changes, or none: the revision, and the rows as they are now.

        A change that was made before is confirmed again. Raises Conflict where a row has another
        version than a change was made from, and KeyError for an image that is not there.
        """
        persons: list[PersonRow] = []
        images: list[ImageRow] = []
        stale = Conflict([], [])
        with self._writing() as db:
            revision = self.revision + 1
            for change in changes:
                if (image := self.image(change.image)) is None:
                    raise KeyError(change.image)
                if change.person is not None:
                    row, fresh = self._change_person(db, change, by, revision)
                    (persons if fresh else stale.persons).append(row)
                elif self._change_done(db, image, change, by, revision):
                    images.append(self.image(change.image) or image)
                else:
                    stale.images.append(image)
            if stale.persons or stale.images:
                raise stale
        return revision, persons, images

    def _change_person(
        self, db: sqlite3.Connection, change: Change, by: str, revision: int
    ) -> tuple[PersonRow, bool]:
        """The row of a person afterwards, and whether the change was made."""
        query = f"SELECT {_PERSON}, change FROM persons WHERE id = ?"
        before = db.execute(query, (change.person,)).fetchone()
        if before is not None and before[-1] == change.id:
            return _person(before[:-1]), True
        if before is None and change.version:
            raise KeyError(change.person)
        if before is not None and (before[3] != change.version or before[2] != change.image):
            return _person(before[:-1]), False
        text = None if change.label is None else change.label.to_json()
        db.execute(
            "INSERT INTO persons (id, image, version, value, by, change, at, revision)"
            " VALUES (?, ?, 1, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
            " version = version + 1, value = excluded.value, by = excluded.by,"
            " change = excluded.change, at = excluded.at, revision = excluded.revision",
            (change.person, change.image, text, by, change.id, time.time(), revision),
        )
        db.execute("UPDATE images SET revision = ? WHERE id = ?", (revision, change.image))
        return _person(db.execute(query, (change.person,)).fetchone()[:-1]), True

    def _change_done(
        self, db: sqlite3.Connection, image: ImageRow, change: Change, by: str, revision: int
    ) -> bool:
        """Whether the change was made; where both said the same there is nothing to refuse."""
        query = "SELECT change FROM images WHERE id = ?"
        if db.execute(query, (image.id,)).fetchone()[0] == change.id:
            return True
        if image.version != change.version and image.done != change.done:
            return False
        db.execute(
            "UPDATE images SET done = ?, version = version + 1, by = ?, change = ?, revision = ?"
            " WHERE id = ?",
            (change.done, by, change.id, revision, image.id),
        )
        return True

    # ---- what the model and the checks say -------------------------------------------------

    def verdicts(self, image: int) -> set[str]:
        """The findings of an image that somebody said are right as they are."""
        with self._lock:
            rows = self._db.execute("SELECT finding FROM verdicts WHERE image = ?", (image,))
            return {finding for (finding,) in rows.fetchall()}

    def accept(self, image: int, finding: str, by: str) -> None:
        """Remember that a finding of an image is right as it is."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", (image, finding, by))

    def predictions(self, model: str) -> dict[int, Any]:
        """What a model predicted in each image, as `predict` kept it."""
        with self._lock:
            rows = self._db.execute(
                "SELECT image, value FROM predictions WHERE model = ?", (model,)
            ).fetchall()
        return {image: json.loads(value) for image, value in rows}

    def predict(self, image: int, model: str, value: Any) -> None:
        """Keep what a model predicted in an image, in place of what another one did."""
        row = (image, model, json.dumps(value, separators=(",", ":")))
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO predictions VALUES (?, ?, ?)", row)


def _image(row: Sequence[Any]) -> ImageRow:
    number, name, width, height, video, done, version, by = row
    return ImageRow(number, name, width, height, video, bool(done), version, by)


def _person(row: Sequence[Any]) -> PersonRow:
    number, name, image, version, value, by, at = row
    label = None if value is None else Label.from_json(value)
    return PersonRow(number, name, image, version, label, by, at)
