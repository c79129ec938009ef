"""`--save`: which results `hrpose predict` writes, collected picture by picture."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose import tables
from hrpose.cli.options import KINDS
from hrpose.data.coco_set import ANNOTATIONS, IMAGES, CocoSet
from hrpose.encoding import encode
from hrpose.files import write_atomically
from hrpose.image import is_upright
from hrpose.poses import Poses
from hrpose.skeleton import Skeleton

_FILES = {"coco": "poses.json", "csv": "poses.csv", "parquet": "poses.parquet"}
# Annotation tools show these; other formats are written anew as PNG.
_COPIED = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(slots=True)
class Outputs:
    """The result files of one run in `folder`; `finish` writes what `add` collected.

    The pictures of a data set are written as they come. Raises UserError where a package is missing
    before any work is done.
    """

    folder: Path
    kinds: frozenset[str]
    skeleton: Skeleton
    threshold: float
    entries: list[dict[str, Any]] = field(default_factory=list)
    rows: list[tables.Row] = field(default_factory=list)
    dataset: CocoSet = field(init=False)

    def __post_init__(self) -> None:
        if "parquet" in self.kinds:
            tables.check_parquet()
        self.dataset = CocoSet(self.skeleton, self.threshold)

    def paths(self) -> list[Path]:
        """The files that `finish` will write."""
        names = [_FILES[kind] for kind in KINDS if kind in self.kinds and kind in _FILES]
        names += [f"dataset/{ANNOTATIONS}"] * ("dataset" in self.kinds)
        return [self.folder / name for name in names]

    def add(
        self,
        file: Path,
        image_id: int,
        image: NDArray[np.uint8],
        poses: Poses,
        frame: int | None = None,
        time: float | None = None,
    ) -> None:
        """The people in one picture, or in one frame of a clip at `time` in seconds."""
        if "coco" in self.kinds:
            about: dict[str, Any] = {"file_name": file.name}
            if frame is not None and time is not None:
                about |= {"frame": frame, "time": round(time, 6)}
            self.entries += [{**about, **entry} for entry in poses.to_coco(image_id)]
        if self.kinds & {"csv", "parquet"}:
            self.rows += tables.rows(
                poses, file=file.name, frame=frame, time=time, threshold=self.threshold
            )
        if "dataset" in self.kinds:
            name = self._copy(file, image, frame)
            self.dataset.add(image_id, name, (image.shape[1], image.shape[0]), poses)

    def finish(self) -> list[Path]:
        """Write the collected results; returns their paths."""
        contents: dict[str, Callable[[], str | bytes]] = {
            "coco": lambda: json.dumps(self.entries),
            "csv": lambda: tables.to_csv(self.rows),
            "parquet": lambda: tables.to_parquet(self.rows),
            "dataset": self.dataset.to_json,
        }
        written = self.paths()
        kinds = [kind for kind in KINDS if kind in self.kinds and kind in contents]
        for path, kind in zip(written, kinds, strict=True):
            write_atomically(path, contents[kind]())
        return written

    def _copy(self, file: Path, image: NDArray[np.uint8], frame: int | None) -> str:
        """Put the picture into the data set, as keypoints see it: upright; returns its name."""
        folder = self.folder / "dataset" / IMAGES
        if frame is None and file.suffix.lower() in _COPIED and is_upright(file):
            write_atomically(folder / file.name, file.read_bytes())
            return file.name
        name = f"{file.name}.png" if frame is None else f"{file.stem}_{frame:06d}.png"
        write_atomically(folder / name, encode(image, ".png"))
        return name
