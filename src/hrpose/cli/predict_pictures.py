"""`hrpose predict` for pictures: read, find, estimate, draw and save, many at a time."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from hrpose.ahead import ahead
from hrpose.cli.boxes import boxes_by_picture
from hrpose.cli.console import STOPPED, asked_to_stop
from hrpose.cli.outputs import Outputs
from hrpose.cli.pictures import files_of, targets_of
from hrpose.drawing import draw, side_by_side
from hrpose.encoding import encode
from hrpose.errors import UserError
from hrpose.files import write_atomically
from hrpose.poses import Poses
from hrpose.runtime.estimator import PoseEstimator
from hrpose.runtime.picture import Picture


def predict_pictures(
    pictures: list[Path],
    estimator: PoseEstimator,
    boxes: Path | None,
    out: Path,
    threshold: float,
    kinds: frozenset[str],
    marks: frozenset[str],
    other: PoseEstimator | None = None,
) -> None:
    """Find the people of `pictures`, files and folders; writes drawn pictures and results to `out`.

    `boxes` is a COCO file that takes the detector's place. What cannot be read is said at the end,
    with exit code 2. Ctrl-C, SIGTERM and an error save what was done until then.
    """
    failures: list[str] = []
    files = files_of(pictures, failures)
    targets = targets_of(files, out)
    if boxes is not None and boxes.resolve() == (out / "poses.json").resolve():
        raise UserError(f"{boxes}: would be written over; choose another --out")
    given = None if boxes is None else boxes_by_picture(boxes, [file for file, _ in files])
    results = Outputs(out, kinds, estimator.passport.skeleton, threshold)

    def read(file: Path) -> Picture | UserError:
        """In a thread of its own, so that the network need not wait for files and detectors."""
        try:
            return estimator.picture(file, *(() if given is None else given[file]))
        except UserError as error:
            return error

    def read_all() -> Iterator[Picture]:
        found = ahead(read, [file for file, _ in files])
        for (file, image_id), picture in zip(files, found, strict=True):
            if isinstance(picture, UserError):
                said = str(picture)
                failures.append(said if str(file) in said else f"{file}: {said}")
            else:
                yield replace(picture, key=(file, image_id))

    counts: list[int] = []
    with asked_to_stop() as stopped:
        try:
            for picture, poses in _progress(estimator.stream(read_all()), len(files)):
                file, image_id = picture.key
                if "pictures" in kinds:
                    canvas = draw(picture.image, poses, threshold, **dict.fromkeys(marks, True))
                    if other is not None:
                        canvas = _beside(canvas, estimator, other, picture, threshold, marks)
                    try:
                        content = encode(canvas, targets[file].suffix)
                    except UserError as error:  # the others are drawn all the same
                        failures.append(f"{targets[file]}: {error}")
                    else:
                        write_atomically(targets[file], content)
                results.add(file, image_id, picture.image, poses)
                counts.append(len(poses))
                if stopped() is not None:
                    break
        except BaseException:
            if counts:
                results.finish()
            raise
        written = results.finish()
        signal = stopped()

    what = ", ".join([*map(str, written), *["drawn pictures"] * ("pictures" in kinds)])
    nobody = f" ({counts.count(0)} with nobody)" if 0 in counts else ""
    source = boxes if boxes is not None else estimator.detector.name
    typer.echo(
        f"{len(counts)} pictures{nobody}, {sum(counts)} people by {source}: "
        f"{what or 'nothing saved'}"
    )
    for failure in failures:
        print(f"hrpose: {failure}", file=sys.stderr)
    if signal is not None:
        raise typer.Exit(STOPPED + signal)
    if failures:
        raise typer.Exit(2)


def _progress(work: Iterator[tuple[Picture, Poses]], total: int) -> Iterator[tuple[Picture, Poses]]:
    """The same, with a bar where somebody watches and it takes a while."""
    console = Console(stderr=True)
    watched = console.is_terminal and total > 10
    yield from track(work, "", total, console=console, transient=True, disable=not watched)


def _beside(
    canvas: NDArray[np.uint8],
    estimator: PoseEstimator,
    other: PoseEstimator,
    picture: Picture,
    threshold: float,
    marks: frozenset[str],
) -> NDArray[np.uint8]:
    """The drawn picture, and the same one with the other weights' poses, under their names."""
    ((_, poses),) = other.stream([picture])
    theirs = draw(picture.image, poses, threshold, **dict.fromkeys(marks, True))
    names = [each.passport.title for each in (estimator, other)]
    return side_by_side([canvas, theirs], names)
