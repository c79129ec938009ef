"""`hrpose predict`: pictures in; drawn pictures and poses.json out."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.options import KINDS, MARKS, BatchSize, FlipTest, Mark, Save, Threshold, Weights
from hrpose.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hrpose.runtime.estimator import Picture, PoseEstimator

# The formats that can be read. A drawn picture keeps its format where OpenCV can write it.
READABLE = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".mpo")
WRITABLE = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def predict(
    pictures: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    weights: Weights = "w16-small",
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="COCO JSON: detections (file_name or image_id, bbox, score) or annotations. "
            "Without it the whole picture is one person's box."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("out"),
    flip_test: FlipTest = False,
    batch_size: BatchSize = 16,
    threshold: Threshold = 0.3,
    save: Save = "pictures,coco",
    mark: Mark = "",
    side_by_side: Annotated[
        str | None, typer.Option(help="Other weights, whose poses are drawn beside the first.")
    ] = None,
) -> None:
    """Find the keypoints of the people in photos; writes drawn photos and results."""
    from hrpose.api import load
    from hrpose.cli.boxes import boxes_by_picture
    from hrpose.cli.outputs import Outputs, chosen
    from hrpose.drawing import draw
    from hrpose.files import write_atomically

    kinds, marks = chosen("--save", save, KINDS), chosen("--mark", mark, MARKS)
    failures: list[str] = []
    files = _files(pictures, failures)
    targets = _targets(files, out)
    if boxes is not None and boxes.resolve() == (out / "poses.json").resolve():
        raise UserError(f"{boxes}: would be written over; choose another --out")
    given = None if boxes is None else boxes_by_picture(boxes, [file for file, _ in files])
    estimator = load(weights, flip_test=flip_test, batch_size=batch_size)
    other = None if side_by_side is None else load(side_by_side, flip_test=flip_test)
    results = Outputs(out, kinds, estimator.passport.skeleton, threshold)

    done: list[tuple[Path, int]] = []
    opened: list[tuple[Path, int, Picture]] = []

    def read() -> Iterator["Picture"]:
        from hrpose.runtime.estimator import Picture

        for file, image_id in files:
            try:
                rows, scores = (None, None) if given is None else given[file]
                picture = Picture.of(file, rows, scores)
            except UserError as error:
                failures.append(str(error) if str(file) in str(error) else f"{file}: {error}")
                continue
            opened.append((file, image_id, picture))
            yield picture

    for poses in estimator.stream(read()):
        file, image_id, picture = opened.pop(0)
        if "pictures" in kinds:
            canvas = draw(picture.image, poses, threshold, **dict.fromkeys(marks, True))
            if other is not None:
                canvas = _beside(canvas, estimator, other, picture, threshold, marks)
            write_atomically(targets[file], _encoded(canvas, targets[file]))
        results.add(file, image_id, picture.image, poses)
        done.append((file, len(poses)))
    written = results.finish()

    people = sum(count for _, count in done)
    what = ", ".join([*map(str, written), *["drawn pictures"] * ("pictures" in kinds)])
    typer.echo(f"{len(done)} pictures, {people} people: {what or 'nothing saved'}")
    for failure in failures:
        print(f"hrpose: {failure}", file=sys.stderr)
    if failures:
        raise typer.Exit(2)


def _files(pictures: list[Path], failures: list[str]) -> list[tuple[Path, int]]:
    """The files to read, each with its image id; what is missing goes to `failures`.

    A picture named by a number, as COCO's are, has that number as its id.
    """
    found: dict[Path, None] = {}
    for given in pictures:
        try:
            inside = sorted(given.iterdir()) if given.is_dir() else None
            exists = given.exists()
        except OSError as error:  # a folder of somebody else, or too long a name
            failures.append(f"{given}: cannot be read ({error.strerror})")
            continue
        if inside is not None:
            inside = [file for file in inside if file.suffix.lower() in READABLE]
            if not inside:
                failures.append(f"{given}: expected pictures ({', '.join(READABLE)}), found none")
            found.update(dict.fromkeys(inside))
        elif exists:
            found[given] = None
        else:
            failures.append(f"{given}: no such file")
    if not found:
        raise UserError("; ".join(failures))
    files = list(found)
    stems = [file.stem for file in files]
    if all(stem.isascii() and stem.isdigit() for stem in stems) and len(set(stems)) == len(stems):
        return [(file, int(file.stem)) for file in files]
    return [(file, position) for position, file in enumerate(files, start=1)]


def _targets(files: list[tuple[Path, int]], out: Path) -> dict[Path, Path]:
    """Where each drawn picture goes: its own name in `out`. No input is ever written over."""
    targets: dict[Path, Path] = {}
    sources = {file.resolve() for file, _ in files}
    for file, _ in files:
        writable = file.suffix.lower() in WRITABLE
        target = out / (file.name if writable else f"{file.name}.png")
        if target.resolve() in sources:
            raise UserError(f"{target}: would be written over; choose another --out")
        if target in targets.values():
            raise UserError(f"{file}: a second picture named {file.name}; predict them one by one")
        targets[file] = target
    _check_writable(out)
    return targets


def _check_writable(out: Path) -> None:
    """Find out before the work is done, not after."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written ({error.strerror}); choose another --out"
        ) from error


def _beside(
    canvas: "NDArray[np.uint8]",
    estimator: "PoseEstimator",
    other: "PoseEstimator",
    picture: "Picture",
    threshold: float,
    marks: frozenset[str],
) -> "NDArray[np.uint8]":
    """The drawn picture, and the same one with the other weights' poses, under their names."""
    from hrpose.drawing import draw, side_by_side

    (poses,) = other.stream([picture])
    theirs = draw(picture.image, poses, threshold, **dict.fromkeys(marks, True))
    names = [each.passport.name or each.passport.network for each in (estimator, other)]
    return side_by_side([canvas, theirs], names)


def _encoded(canvas: "NDArray[np.uint8]", target: Path) -> bytes:
    """A picture in the format of `target`."""
    import cv2

    _, encoded = cv2.imencode(target.suffix, cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()
