"""`hrpose explain`: an HTML page that shows how a pose was estimated."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli.options import PERSONS, THRESHOLD, Detector, Threshold, Weights
from hrpose.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hrpose.estimator import PoseEstimator


def explain(
    path: Annotated[Path, typer.Argument(help="An image.")],
    weights: Weights = "w16-small",
    box: Annotated[
        str | None,
        typer.Option(
            help="The person's box: x,y,w,h in pixels of the image.", rich_help_panel=PERSONS
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="COCO JSON with boxes of the image; the largest is explained.",
            rich_help_panel=PERSONS,
        ),
    ] = None,
    detector: Detector = "auto",
    keypoint: Annotated[
        str | None, typer.Option(help="The keypoint to show pixel by pixel, such as left_wrist.")
    ] = None,
    threshold: Threshold = THRESHOLD,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the page and its images.")
    ] = Path("out"),
) -> None:
    """Explain the method on one image: a page with its box, crop, heatmaps and keypoints."""
    from hrpose.api import load
    from hrpose.explain import trace, write
    from hrpose.image import read_image

    if box is not None and boxes is not None:
        raise UserError(
            "--box and --boxes: expected one of them, found both", code="option-conflict"
        )
    image = read_image(path)
    given = box is not None or boxes is not None
    estimator = load(weights, detector="none" if given else detector)
    chosen, origin = _box(path, image, box, boxes, estimator)
    traced = trace(estimator.session, image, chosen, origin, keypoint)
    written = write(traced, path.name, out, threshold)
    typer.echo(f"{written.page} (open it in a browser)")


def _box(
    path: Path,
    image: "NDArray[np.uint8]",
    box: str | None,
    boxes: Path | None,
    estimator: "PoseEstimator",
) -> tuple["NDArray[np.float64]", str]:
    """The box [x, y, w, h] to explain, and a sentence about who gave it."""
    import numpy as np

    from hrpose.estimator import FullImage
    from hrpose.predict.inputs import ImageInput, boxes_by_image

    if box is not None:
        try:
            x, y, w, h = (float(value) for value in box.split(","))
        except ValueError as error:
            raise UserError(
                f"--box: expected four numbers x,y,w,h such as 40,20,180,400, found '{box}'",
                code="option-invalid",
            ) from error
        return np.array([x, y, w, h]), "Here you gave the box."
    if boxes is not None:
        source = ImageInput(path, 1)
        rows, _ = boxes_by_image(boxes, [source])[source]
        found, origin = np.array(rows, np.float64).reshape(-1, 4), f"the file {boxes.name} gave"
    else:
        found = estimator.image(image).boxes
        origin = f"the detector {estimator.detector.name} found"
        if isinstance(estimator.detector, FullImage):
            return found[0], "Here no detector looked: it is the whole image."
    if not len(found):
        raise UserError(
            f"{path}: no person was found; give the box with --box x,y,w,h",
            code="persons-missing",
        )
    largest = found[int(np.argmax(found[:, 2] * found[:, 3]))]
    if len(found) == 1:
        return largest, f"Here {origin} the box."
    return largest, f"Here {origin} {len(found)} people; this page follows the largest."
