"""`hrpose analyze`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hrpose.cli.options import BatchSizeOfWeights, FlipTestOfWeights, ImagesIfAny
from hrpose.errors import UserError


def analyze(
    results: Annotated[Path, typer.Argument(help="COCO keypoint results, as of `evaluate --out`.")],
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    images: ImagesIfAny = None,
    weights: Annotated[
        str | None,
        typer.Option(help="The weights of the results, for heatmaps and AP against box noise."),
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="A YAML file that completes the annotations' skeleton.")
    ] = None,
    flip_test: FlipTestOfWeights = True,
    batch_size: BatchSizeOfWeights = 64,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("analysis.html"),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where the figures go as JSON.")
    ] = None,
    store_calibration: Annotated[
        Path | None,
        typer.Option(help="A copy of --weights to write, whose joint scores are calibrated."),
    ] = None,
) -> None:
    """Find out why the AP is what it is: one page on errors, boxes, scores and people."""
    from hrpose.analysis.page import render
    from hrpose.analysis.run import analyze
    from hrpose.analysis.store import check_copy
    from hrpose.analysis.store import store_calibration as store
    from hrpose.api import load
    from hrpose.cli.console import progress
    from hrpose.files import write_atomically
    from hrpose.weights import find

    if store_calibration is not None and weights is None:
        raise UserError("--store-calibration: needs the weights of the results; add --weights")
    estimator = None
    if weights is not None:
        if store_calibration is not None:
            check_copy(find(weights), store_calibration)
        estimator = load(weights, detector="whole", flip_test=flip_test, batch_size=batch_size)
    with progress("") as show:
        analysis = analyze(
            results,
            annotations,
            images,
            estimator,
            skeleton=skeleton,
            progress=lambda what, done, total: show(done, total, what),
        )
    scores = analysis.calibration
    if store_calibration is not None and isinstance(scores, str):
        raise UserError(f"--store-calibration: {scores}")
    write_atomically(out, render(analysis))
    written = [out]
    if json_file is not None:
        text = json.dumps(analysis.as_dict(), indent=2, allow_nan=False)
        write_atomically(json_file, f"{text}\n")
        written.append(json_file)
    if store_calibration is not None and weights is not None and not isinstance(scores, str):
        store(find(weights), scores.calibration, store_calibration)
        written.append(store_calibration)
    gains = sorted(analysis.gains, key=lambda gain: -gain.scores.AP)
    most = ", ".join(f"{g.error} {g.scores.AP - analysis.scores.AP:+.3f}" for g in gains[:3])
    typer.echo(f"AP {analysis.scores.AP:.3f}; mended alone, the most: {most}")
    typer.echo(f"wrote {', '.join(map(str, written))} (open the page in a browser)")
