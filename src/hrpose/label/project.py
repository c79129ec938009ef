"""A project: the images and clips of a folder, their labels, and the one folder that is written.

Labels are in `labels.db`; `annotations.json`, COCO keypoints of all of them, is written anew after
every change. Frames of clips are files below `frames`, so that all images have names below the
project's folder.
"""

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from hrpose.data.coco import CocoAnnotations, read_annotations
from hrpose.data.formats import guess_format
from hrpose.data.formats.pose_set import Person, PoseSet, ReadOptions, box_of_keypoints
from hrpose.data.images import ImageFiles, images_beside
from hrpose.data.skeleton_file import find_skeleton, to_yaml
from hrpose.errors import UserError
from hrpose.evaluation.sigmas import Sigmas, from_repeats
from hrpose.file_kinds import files_in, skipped_text
from hrpose.io import name_to_text, natural_key, write_atomically, write_error
from hrpose.label.store import Change, ImageRow, Label, PersonRow, Store
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17

FOLDER = "hrpose-labels"
# Seconds that an export waits for more changes.
_PAUSE = 0.5
_log = logging.getLogger(__name__)


class Project:
    """The images below `folder`, and what is labeled in them.

    `skeleton` is a name or file as of `--skeleton`; without it that of the project, else that of
    `annotations`, else COCO's. `annotations` are labels of any format that `hrpose data convert`
    reads; images that have labels already keep theirs. `others` are COCO keypoints of the same
    images by other annotators, see `agreement`. `notes` are lines for the user. Raises UserError
    where the folder cannot be read or written, or another process labels it.
    """

    def __init__(
        self,
        folder: Path,
        skeleton: str | None = None,
        annotations: Path | None = None,
        others: Sequence[Path] = (),
    ) -> None:
        self.root = folder
        self.others = {path: read_annotations(path).persons() for path in others}
        self._agreed: tuple[int, Sigmas | None] = (-1, None)  # of a revision
        self.files = ImageFiles(folder)
        if not folder.is_dir():
            raise UserError(
                f"{folder}: expected a folder of images, found a file; name its folder",
                code="images-missing",
            )
        self.folder = folder / FOLDER
        self.notes: list[str] = []
        self.clips: list[str] = []
        names = self._list()
        asked = None if skeleton is None else find_skeleton(skeleton)
        found = None if annotations is None else self._read(annotations, asked)
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise write_error(self.folder, error, "label a folder that can be written") from error
        self.store = Store(self.folder / "labels.db")
        try:
            self.skeleton = self._settle(asked or (None if found is None else found.skeleton))
            self.store.add_images([(name, "") for name in names])
            # Images may be gone; their labels stay.
            self.present = {*names, *self._frames()}
            if found is not None:
                self._import(found)
            self._writer = _Writer(self)
        except BaseException:
            self.store.close()
            raise

    def _list(self) -> list[str]:
        """The names of the images; clips are noted. Raises UserError where there is neither."""
        skipped: Counter[str] = Counter()
        names: list[str] = []
        try:
            found = list(files_in(self.root, skipped, recursive=True, without=self.folder))
        except OSError as error:
            raise UserError(
                f"{self.root}: cannot be read ({error.strerror})", code="file-unreadable"
            ) from error
        for _, kind, name in found:
            (names if kind.role == "image" else self.clips).append(name_to_text(name))
        if not found:
            raise UserError(
                f"{self.root}: expected images or clips, found {skipped_text(skipped) or 'none'}; "
                "check the folder",
                code="images-missing",
            )
        return names

    def _frames(self) -> Iterator[str]:
        """The names of the frames that were taken from clips."""
        for image in self.store.images():
            if image.video and image.name in self.files:
                yield image.name

    def _settle(self, asked: Skeleton | None) -> Skeleton:
        """The project's skeleton, which is kept from the first time on."""
        kept = self.store.setting("skeleton")
        known = None if kept is None else Skeleton.from_dict(kept)
        if known is not None and asked is not None and known.keypoints != asked.keypoints:
            raise UserError(
                f"{self.folder}: expected the keypoints of the labels there "
                f"({', '.join(known.keypoints)}), found {', '.join(asked.keypoints)}; leave "
                "--skeleton out, or move the folder away",
                code="keypoints-differ",
            )
        skeleton = asked or known or COCO_17
        for path, table in self.others.items():
            if table.skeleton.keypoints != skeleton.keypoints:
                raise UserError(
                    f"{path}: expected the keypoints of the project "
                    f"({', '.join(skeleton.keypoints)}), found "
                    f"{', '.join(table.skeleton.keypoints)}",
                    code="keypoints-differ",
                )
        if known is not None and self.store.setting("agreement"):
            skeleton = replace(skeleton, sigmas=known.sigmas, has_sigmas=True)
        self._keep(skeleton)
        return skeleton

    def _keep(self, skeleton: Skeleton) -> None:
        self.store.keep("skeleton", skeleton.to_dict())
        write_atomically(self.folder / "skeleton.yaml", to_yaml(skeleton))

    # ---- images -----------------------------------------------------------------------------

    def images(self) -> list[ImageRow]:
        """The images that are there, in natural order of their names."""
        rows = [image for image in self.store.images() if image.name in self.present]
        return sorted(rows, key=lambda image: natural_key(image.name))

    def sized(self, image: ImageRow) -> tuple[int, int]:
        """The size (w, h) of an image, read from its file once. Raises UserError."""
        if image.width is not None and image.height is not None:
            return image.width, image.height
        size = self.files.size(image.name)
        self.store.set_size(image.id, size)
        return size

    def before(self, image: ImageRow) -> ImageRow | None:
        """The image before one: the frame before of its clip, the file before in its folder."""
        folder = image.name.rpartition("/")[0]
        rows = [
            row
            for row in self.images()
            if row.video == image.video and row.name.rpartition("/")[0] == folder
        ]
        at = next((i for i, row in enumerate(rows) if row.id == image.id), 0)
        return rows[at - 1] if at else None

    def add_frames(self, clip: str, frames: Mapping[int, bytes]) -> None:
        """Keep frames of a clip, JPEG by number, as images of the project."""
        names = []
        for number, data in frames.items():
            name = f"{FOLDER}/frames/{clip}/{number:06}.jpg"
            write_atomically(self.root / name, data)
            names.append((name, clip))
        self.store.add_images(names)
        self.present.update(name for name, _ in names)
        self.store.keep("clips", {**(self.store.setting("clips") or {}), clip: sorted(frames)})

    def clips_left(self) -> list[str]:
        """The clips of which no frames were taken yet."""
        done = self.store.setting("clips") or {}
        return [clip for clip in self.clips if clip not in done]

    # ---- labels of other tools --------------------------------------------------------------

    def _read(self, annotations: Path, skeleton: Skeleton | None) -> PoseSet:
        images = None if images_beside(annotations) else self.files
        return guess_format(annotations).read(
            annotations, ReadOptions(images=images, skeleton=skeleton)
        )

    def _import(self, found: PoseSet) -> None:
        """Take the labels of images that have none; the names of images may lack their folder."""
        if found.skeleton.keypoints != self.skeleton.keypoints:
            raise UserError(
                f"--annotations: expected the keypoints of the project "
                f"({', '.join(self.skeleton.keypoints)}), found "
                f"{', '.join(found.skeleton.keypoints)}; see `hrpose data convert --rename`",
                code="keypoints-differ",
            )
        rows = self.images()
        by_name = {row.name: row for row in rows}
        ends = Counter(row.name.rpartition("/")[2] for row in rows)
        by_end = {row.name.rpartition("/")[2]: row for row in rows}
        labeled = self.store.counts()
        changes: list[Change] = []
        taken = unknown = kept = 0
        for image in found.images:
            end = image.name.replace("\\", "/").rpartition("/")[2]
            row = by_name.get(image.name) or (by_end[end] if ends[end] == 1 else None)
            if row is None:
                unknown += 1
            elif row.id in labeled or row.done:
                kept += 1
            elif image.persons:
                taken += 1
                self.sized(row)
                changes += [
                    Change(uuid4().hex, row.id, 0, uuid4().hex, self._label(person))
                    for person in image.persons
                ]
                changes.append(Change(uuid4().hex, row.id, row.version, done=True))
        self.store.apply(changes, "import")
        self.notes += [f"labels of {taken:,} of {len(found.images):,} images were taken over"]
        if kept:
            self.notes.append(f"{kept:,} images were labeled already and keep their labels")
        if unknown:
            self.notes.append(f"{unknown:,} images of the labels are not in {self.root}")
        self.notes += found.notes

    def _label(self, person: Person) -> Label:
        points = (person.keypoints.get(name) for name in self.skeleton.keypoints)
        return Label.checked(person.box, list(points))

    # ---- other annotators -------------------------------------------------------------------

    def agreement(self) -> dict[str, Any]:
        """How far annotators are apart, as JSON: `others` who labeled the same images, the OKS
        constant of each of the `keypoints`, none where nobody is labeled twice, and those `used`.
        """
        found = self._measured() if self.others else None
        return {
            "others": [path.name for path in self.others],
            "keypoints": [] if found is None else found.rows(),
            "used": self.skeleton.sigmas if self.skeleton.has_sigmas else None,
        }

    def take_agreement(self) -> dict[str, Any]:
        """Make the constants measured those of the project, for learning and its metric too.

        Returns the `agreement`. Raises UserError where there are none.
        """
        if not self.others or (found := self._measured()) is None:
            raise UserError(
                "agreement: expected persons who are labeled here and in a file of --other, found "
                "none; label images that are in both",
                code="labels-missing",
            )
        sigmas = tuple(round(sigma, 4) for sigma in found.filled().tolist())
        self.skeleton = replace(self.skeleton, sigmas=sigmas, has_sigmas=True)
        self.store.keep("agreement", True)
        self._keep(self.skeleton)
        return self.agreement()

    def _measured(self) -> Sigmas | None:
        """OKS constants of these labels and those of others; None where nobody is in both."""
        revision = self.store.revision
        if self._agreed[0] != revision:
            own = CocoAnnotations(self.folder / "annotations.json", self.coco())
            found = None
            try:
                found = from_repeats([own.persons(), *self.others.values()])
            except UserError as error:
                if error.code != "labels-missing":
                    raise
            self._agreed = revision, found
        return self._agreed[1]

    # ---- COCO -------------------------------------------------------------------------------

    def coco(self) -> dict[str, Any]:
        """All labels as COCO keypoints."""
        category = self.skeleton.to_coco_category()
        return to_coco(self.store.images(), self.store.persons(), category)

    def export(self) -> Path:
        """Write `annotations.json` and return its path. Raises UserError."""
        path = self.folder / "annotations.json"
        write_atomically(path, json.dumps(self.coco(), ensure_ascii=False) + "\n")
        return path

    def changed(self) -> None:
        """Say that labels have changed: `annotations.json` is written anew a moment later."""
        self._writer.changed.set()

    def close(self) -> None:
        """Write what is not written yet, and let other processes label the folder."""
        self._writer.close()
        self.store.close()


class _Writer(threading.Thread):
    """Writes `annotations.json` after changes: once for many that come at the same time."""

    def __init__(self, project: Project) -> None:
        super().__init__(name="annotations", daemon=True)
        self._project = project
        self._ended = threading.Event()
        self.changed = threading.Event()
        self.changed.set()  # an earlier process may have been killed before it wrote
        self.start()

    def run(self) -> None:
        while not self._ended.is_set():
            self.changed.wait()
            self._ended.wait(_PAUSE)
            self._write()

    def _write(self) -> None:
        self.changed.clear()
        try:
            self._project.export()
        except UserError as error:  # the labels themselves are safe
            _log.error("%s", error)

    def close(self) -> None:
        """Write the last changes."""
        self._ended.set()
        self.changed.set()
        self.join()
        if self.changed.is_set():
            self._write()


def to_coco(
    images: Sequence[ImageRow], persons: Sequence[PersonRow], category: Mapping[str, Any]
) -> dict[str, Any]:
    """COCO keypoints of the images that are done or have persons.

    `labeled` of an image says whether it is done. A box that nobody drew is around the keypoints,
    and marked by `bbox_guessed`. Keypoints outside are as those that are not labeled: 0, 0, 0.
    """
    by_image: dict[int, list[PersonRow]] = {}
    for person in persons:
        by_image.setdefault(person.image, []).append(person)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in images:
        own = by_image.get(image.id, [])
        if image.width is None or image.height is None or not (own or image.done):
            continue
        size = (image.width, image.height)
        entry = {"id": image.id, "file_name": image.name, "width": size[0], "height": size[1]}
        video = {"video": image.video} if image.video else {}
        entries.append(entry | {"labeled": image.done} | video)
        for person in own:
            assert person.label is not None  # the store leaves deleted ones out
            if (found := _annotation(person, person.label, size)) is not None:
                annotations.append({**found, "category_id": category["id"]})
    return {
        "info": {"description": "labeled with hrpose"},
        "images": entries,
        "annotations": annotations,
        "categories": [dict(category)],
    }


def _annotation(person: PersonRow, label: Label, size: tuple[int, int]) -> dict[str, Any] | None:
    """None for a person without a box and a keypoint in the image."""
    seen = [point for point in label.keypoints if point is not None and point[2]]
    if not seen and label.box is None:
        return None
    box = label.box or box_of_keypoints(seen, size)
    values: list[float] = []
    for point in label.keypoints:
        values += point if point is not None and point[2] else (0, 0, 0)
    annotation = {
        "id": person.number,
        "image_id": person.image,
        "iscrowd": 0,
        "num_keypoints": len(seen),
        "keypoints": values,
        "bbox": [round(value, 3) for value in box],
        "area": round(box[2] * box[3], 3),
    }
    return annotation if label.box else {**annotation, "bbox_guessed": True}
