"""Data sets written as a new folder, completely or not at all, with their images linked or copied.

    OUT/annotations.json, train.json ...
    OUT/images -> the folder of the images, or copies of those in the annotations

Commands look for `images` beside an annotation file, so a link is enough for them to find the
images by the same names. Images in a zip file are not linked: commands read the zip file itself.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hrpose.data.images import ImageFiles, images_beside, stays_inside
from hrpose.errors import UserError
from hrpose.image import MAX_BYTES
from hrpose.io import printable, write_error
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The images `names` of `files`, to be placed below `folder` of the data set.

    With `each`, the images are linked one by one, not their folder.
    """

    folder: str
    files: ImageFiles
    names: tuple[str, ...] = ()
    each: bool = False


def images_of(path: Path, images: Path | None) -> ImageFiles | None:
    """The images that the user names, else `images` or `images.zip` beside the file."""
    return images_beside(path) if images is None else ImageFiles(images)


def need_images(path: Path, images: Path | None) -> ImageFiles:
    """As `images_of`; raises UserError where there are none."""
    found = images_of(path, images)
    if found is None:
        raise UserError(
            f"{path}: expected the folder 'images' beside it, found none; use --images",
            code="images-missing",
        )
    return found


def must_be_new(out: Path) -> None:
    """Raises UserError where `out` exists and is not an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"{out}: expected a new or empty folder, found files there; choose another",
            code="folder-not-empty",
        )


def write_folder(
    out: Path, files: Mapping[str, str], images: Iterable[ImageSet] = (), copy: bool = False
) -> None:
    """Write `files` (text by name) and the images to `out`, which appears when all of it is done.

    Raises UserError, leaving nothing behind, where `out` is not new, an image to copy is missing,
    or something cannot be written.
    """
    must_be_new(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".hrpose-", dir=out.parent))
    except OSError as error:
        raise write_error(out, error) from error
    try:
        for each in images:
            _add(staged, each, copy)
        for name, text in files.items():
            path = _inside(staged, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        staged.chmod(0o755)  # mkdtemp makes folders for their owner alone
        if out.is_dir():
            out.rmdir()
        staged.rename(out)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise write_error(out, error) from error
    except UnicodeEncodeError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise UserError(
            f"{out}: expected names without surrogate characters, found {error}",
            code="annotations-invalid",
        ) from error
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


@contextmanager
def replacing_folder(out: Path) -> Iterator[Path]:
    """A folder to write files into, which becomes `out`, or not at all.

    All files are of the kind that `out` ends with, as .json for clip_json. An older `out` with such
    files alone is replaced. Raises UserError where there is anything else, or something cannot be
    written.
    """
    check_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".hrpose-", dir=out.parent))
        try:
            yield staged
            staged.chmod(0o755)  # mkdtemp makes folders for their owner alone
            if out.is_dir():
                shutil.rmtree(out)
            staged.rename(out)
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
    except OSError as error:
        raise write_error(out, error) from error


def check_replaceable(out: Path) -> None:
    """Raises UserError where `out` is there, but has other files than `replacing_folder` writes."""
    suffix = f".{out.name.rpartition('_')[2]}"
    if not os.path.lexists(out):
        return
    others = ["a file"] if out.is_symlink() or not out.is_dir() else []
    others += [
        path.name
        for path in ([] if others else sorted(out.iterdir()))
        if path.suffix != suffix or path.is_symlink() or not path.is_file()
    ]
    if others:
        raise UserError(
            f"{out}: expected a folder with {suffix} files alone, found {printable(others[0])}; "
            "move it, or choose another --out",
            code="overwrite-refused",
        )


def _add(staged: Path, images: ImageSet, copy: bool) -> None:
    folder, files = _inside(staged, images.folder), images.files
    if copy:
        for name in images.names:
            content = files.content(name)
            if len(content) > MAX_BYTES:
                raise UserError(
                    f"{name}: expected at most {MAX_BYTES:,} bytes, found more",
                    code="file-too-large",
                )
            path = _inside(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    elif not files.path.is_dir():
        return
    elif images.each:
        for name in images.names:
            if name in files:
                _link(_inside(folder, name), files.path / name)
    else:
        _link(folder, files.path)


def _link(path: Path, target: Path) -> None:
    """Make a relative link, so that a tree of data may be moved.

    `path` is in the staged folder, which is beside the folder that it becomes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        relative = os.path.relpath(target.resolve(), path.parent.resolve())
        path.symlink_to(relative, target_is_directory=target.is_dir())
    except (OSError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{target}: cannot be linked to ({error}); use --copy", code="write-failed"
        ) from error


def _inside(folder: Path, name: str) -> Path:
    if not stays_inside(name):
        raise UserError(
            f"{folder}: expected a name inside the folder, found {name!r}",
            code="annotations-invalid",
        )
    return folder / name


# Where CVAT and Datumaro look for the images and annotations of a COCO data set.
IMAGES = "images/default"
ANNOTATIONS = "annotations/person_keypoints_default.json"


class CocoSet:
    """Predicted poses as a COCO data set, written to `file` image by image; `close` completes it.

    Keypoints with a score below `threshold` are not labeled: x, y and visibility 0. The others have
    visibility 2.
    """

    def __init__(self, file: IO[bytes], skeleton: Skeleton, threshold: float) -> None:
        self.threshold = threshold
        self._file, self._images, self._annotations = file, 0, 0
        # They come after all images, and may be too many for the memory.
        self._rest = tempfile.SpooledTemporaryFile(max_size=1_000_000)  # noqa: SIM115
        head = {
            "info": {"description": "Keypoints predicted by hrpose"},
            "licenses": [],
            "categories": [{**skeleton.to_coco_category(), "supercategory": "person"}],
        }
        file.write(json.dumps(head)[:-1].encode() + b', "images": [')

    def add(self, image_id: int, file_name: str, image_wh: tuple[int, int], poses: Poses) -> None:
        """Add an image, which is in `IMAGES` under `file_name`, and its poses."""
        width, height = image_wh
        image = {"id": image_id, "file_name": file_name, "width": width, "height": height}
        self._file.write(_item(image, self._images))
        self._images += 1
        for keypoints, box, score in zip(
            poses.keypoints.tolist(), poses.boxes.tolist(), poses.scores.tolist(), strict=True
        ):
            triples = [
                [round(x, 2), round(y, 2), 2] if s >= self.threshold else [0, 0, 0]
                for x, y, s in keypoints
            ]
            annotation = {
                "id": self._annotations + 1,
                "image_id": image_id,
                "category_id": 1,
                "keypoints": [value for triple in triples for value in triple],
                "num_keypoints": sum(triple[2] > 0 for triple in triples),
                "bbox": [round(value, 2) for value in box],
                "area": round(box[2] * box[3], 2),
                "iscrowd": 0,
                # Required by readers, and may be empty.
                "segmentation": [],
                # Not COCO's, but both tools preserve it as an attribute.
                "score": round(score, 4),
            }
            self._rest.write(_item(annotation, self._annotations))
            self._annotations += 1

    def close(self) -> None:
        """Write the annotations, and the end."""
        self._file.write(b'], "annotations": [')
        self._rest.seek(0)
        shutil.copyfileobj(self._rest, self._file)
        self._rest.close()
        self._file.write(b"]}\n")


def _item(value: Mapping[str, Any], index: int) -> bytes:
    return (b",\n" if index else b"\n") + json.dumps(value).encode()
