"""`hrpose`: the entry point; `env` and `verify`, what is installed and whether it computes right.

Commands import what they need when they run.
"""

import json
import logging
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from hrpose.cli import (
    add,
    conflict,
    data,
    deploy,
    describe,
    evaluate,
    given,
    group,
    label,
    measure,
    predict,
    train,
    version_option,
    weights,
)
from hrpose.cli.console import (
    NOT_DONE,
    conclude,
    counted,
    progress,
    report,
    say,
    table,
    waiting,
    write_any_name,
)
from hrpose.cli.options import (
    Against,
    AnnotationsIfAny,
    BoxesOfDataSet,
    Device,
    FlipTestOfWeights,
    ImagesIfAny,
    Precision,
    Published,
    Tolerance,
    Weights,
    WeightsToVerify,
)
from hrpose.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hrpose.engines import Engine
    from hrpose.evaluation.parity.comparisons import Certificate, Check

_ROUNDS = 11


@dataclass(frozen=True, slots=True)
class Run:
    """One crop on an engine, beside ONNX Runtime in float32 on the CPU.

    `milliseconds` is the median of a few runs after the first, `heatmaps` the largest difference of
    their values, `keypoints` the largest distance in pixels of the network's input; None where it
    failed, then with the reason in `problem`.
    """

    device: str
    precision: str
    milliseconds: float | None = None
    heatmaps: float | None = None
    keypoints: float | None = None
    problem: str | None = None


@describe(
    "hrpose env",
    "hrpose env --json > env.json",
    python="version of Python",
    system="the operating system",
    versions="version of each package that matters",
    conflicts="a sentence for each pair of packages that disturb each other",
    processor="name of the processor",
    features="its features that matter",
    cores="number of usable cores",
    environment="variables that were set",
    devices="the devices that are there",
    uses="what runs the pose model and the detector",
    runs="an object for each engine: `device`, `precision`, `milliseconds`, `heatmaps`, "
    "`keypoints`, `problem`",
)
def env(
    weights: Weights = "w32-small", device: Device = "auto", precision: Precision = "auto"
) -> None:
    """Show versions, devices, what runs each network, and one crop on each engine."""
    found = survey(weights, device, precision)
    conclude(**found)
    say(*_as_text(found))


def survey(weights: str, device: str = "auto", precision: str = "auto") -> dict[str, Any]:
    """All that `hrpose env` shows, as JSON has it."""
    from hrpose import engines
    from hrpose.session import usable_cores
    from hrpose.weights import find

    versions = engines.versions()
    name, features = engines.processor()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
        "conflicts": engines.conflicts(versions),
        "processor": name,
        "features": features,
        "cores": usable_cores(),
        "environment": {
            name: os.environ[name]
            for name in (engines.DEVICE_VARIABLE, engines.PRECISION_VARIABLE, "OMP_NUM_THREADS")
            if name in os.environ
        },
        "devices": [
            *(kind for kind in engines.KINDS if kind != "openvino" and engines.provided(kind)),
            *(f"openvino:{name}" for name in engines.openvino_devices()),
        ],
        "uses": _uses(weights, device, precision),
        "runs": [asdict(run) for run in _runs(find(weights))],
    }


def _uses(weights: str, device: str, precision: str) -> dict[str, str]:
    """What runs the pose model and the detector with these options."""
    from hrpose.detection import open_detector
    from hrpose.session import open_session
    from hrpose.weights import find

    uses = {}
    for name in (weights, "detector"):
        try:
            opened: Any = (
                open_detector(device=device, precision=precision)
                if name == "detector"
                else open_session(find(weights), device=device, precision=precision)
            )
        except UserError as error:
            uses[name] = f"nothing: {error}"
        else:
            uses[name] = str(opened.engine)
    return uses


def _runs(path: Path) -> list[Run]:
    """One crop on each engine that there is; TensorRT would build for minutes first."""
    from hrpose.engines import KINDS as ENGINES
    from hrpose.engines import Engine, openvino_devices, openvino_precisions, provided

    if path.suffix != ".onnx":
        return []
    engines = [
        Engine(kind) for kind in ENGINES if kind not in ("openvino", "tensorrt") and provided(kind)
    ]
    for device in openvino_devices():
        engines += [Engine("openvino", device, name) for name in openvino_precisions(device)]
    crop = _crop(path)
    expected, runs = None, []
    for engine in engines:
        run, heatmaps = _run(path, engine, crop, expected)
        runs.append(run)
        expected = heatmaps if expected is None else expected
    return runs


def _crop(path: Path) -> "NDArray[np.uint8]":
    """A drawn person, (1, h, w, 3) in the size of the weights' input."""
    import numpy as np

    from hrpose.geometry import warp
    from hrpose.metadata import Metadata, metadata_of
    from hrpose.synthetic import render_image

    metadata = metadata_of(path, Metadata)
    drawn = render_image(np.random.default_rng(0))
    return warp(drawn.image, metadata.crop(np.asarray(drawn.boxes)[0]))[None]


def _run(
    path: Path, engine: "Engine", crop: "NDArray[np.uint8]", expected: "NDArray[np.float32] | None"
) -> tuple[Run, "NDArray[np.float32] | None"]:
    import numpy as np

    from hrpose.session import open_session

    try:
        session = open_session(path, device=engine.device, precision=engine.precision)
        heatmaps, times = session(crop), []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            session(crop)
            times.append(time.perf_counter() - start)
    except Exception as error:  # The engines' exceptions have no common public base.
        problem = str(error).split("\n")[0]
        return Run(engine.device, engine.precision, problem=problem), None
    expected = heatmaps if expected is None else expected
    decode = session.metadata.codec.decode
    moved = np.linalg.norm(decode(heatmaps)[0] - decode(expected)[0], axis=-1)
    return Run(
        engine.device,
        engine.precision,
        round(1e3 * float(np.median(times)), 2),
        float(np.abs(heatmaps - expected).max()),
        round(float(moved.max()), 4),
    ), heatmaps


def _as_text(found: dict[str, Any]) -> list[str]:
    rows = [
        ("Python", f"{found['python']} on {found['system']}"),
        ("packages", ", ".join(f"{name} {number}" for name, number in found["versions"].items())),
        *(("conflict", sentence) for sentence in found["conflicts"]),
        ("processor", f"{found['processor']}, {found['cores']} usable cores"),
        ("features", ", ".join(found["features"]) or "unknown"),
        ("devices", ", ".join(found["devices"])),
        *((name, value) for name, value in found["environment"].items()),
        *((name, value) for name, value in found["uses"].items()),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    if found["runs"]:
        lines += ["", "one crop; largest differences from fp32 on the first engine"]
        lines.append(
            f"{'device':<14}{'precision':<11}{'ms':>8}{'heatmaps':>11}{'keypoints px':>14}"
        )
    for run in found["runs"]:
        line = f"{run['device']:<14}{run['precision']:<11}"
        if run["problem"] is None:
            line += f"{run['milliseconds']:8.2f}{run['heatmaps']:11.2g}{run['keypoints']:8.3f} px"
        else:
            line += f"  fails: {run['problem']}"
        lines.append(line)
    return lines


# As in `hrpose.evaluation.predictions`, which cannot be imported without the train extra.
GROUND_TRUTH, DETECTOR = "ground-truth", "detector"
# The largest accepted difference of a measured score from the published one.
TOLERANCE = 0.001


@describe(
    "hrpose verify",
    "hrpose verify --weights best.onnx --against best.safetensors",
    equal="whether all comparisons are equal",
    certificate="the comparisons, versions, and what was not run",
    files="the file written, if any",
)
def verify(
    context: typer.Context,
    golden: Annotated[
        Path | None, typer.Option(help="Golden vectors; by default those in the package.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the certificate.")] = None,
    weights: WeightsToVerify = None,
    against: Against = None,
    annotations: AnnotationsIfAny = None,
    images: ImagesIfAny = None,
    boxes: BoxesOfDataSet = GROUND_TRUTH,
    published: Published = None,
    tolerance: Tolerance = TOLERANCE,
    flip_test: FlipTestOfWeights = True,
) -> None:
    """Compare this installation with numbers of the official code; exit code 1 if they differ.

    With --weights, also a model with its published score, or an exported model with its original.
    """
    from hrpose.evaluation.parity.comparisons import Certificate, verify
    from hrpose.evaluation.parity.golden import Golden
    from hrpose.io import write_atomically

    about_data = ("boxes", "tolerance")
    for name in ("against", "annotations", "images", "published", "flip_test", *about_data):
        if given(context, name) and weights is None:
            raise conflict(f"--{name.replace('_', '-')}: needs weights; add --weights")
    if (annotations is None) != (images is None):
        raise conflict("--annotations and --images go together; found only one of them")
    for name in about_data:
        if given(context, name) and annotations is None:
            raise conflict(f"--{name}: needs a data set; add --annotations and --images")
    if boxes == DETECTOR:
        raise UserError(
            f"--boxes: expected {GROUND_TRUTH} or a COCO detections file, found {boxes}; "
            "give a file",
            code="option-invalid",
        )
    vectors = Golden.open(golden)
    certificate = waiting("comparing with the golden vectors", lambda: verify(vectors))
    if weights is not None:
        data = None if annotations is None or images is None else (annotations, images, boxes)
        more = _model(weights, against, data, published, tolerance, flip_test)
        certificate = Certificate((*certificate.checks, *more), certificate.not_run)
    _show(certificate, vectors.is_part)
    conclude(
        equal=certificate.equal,
        certificate=json.loads(certificate.to_json()),
        files=[] if out is None else [out],
    )
    if out is not None:
        write_atomically(out, certificate.to_json() + "\n")
        say(f"wrote {out}")
    if not certificate.equal:
        raise typer.Exit(1)


def _model(
    weights: str,
    against: str | None,
    data: tuple[Path, str, str] | None,
    published: float | None,
    tolerance: float,
    flip_test: bool,
) -> "list[Check]":
    from hrpose.api import load
    from hrpose.evaluation.parity.comparisons import (
        Check,
        compare_models,
        persons_of,
        primary_metric,
        synthetic_persons,
    )
    from hrpose.weights.registry import lookup

    if published is None and against is None and (row := lookup(weights)):
        published = row.score
    if published is not None and data is None:
        raise conflict(f"--weights {weights}: add --annotations and --images to measure it on")
    if published is None and against is None:
        raise conflict(
            f"--weights {weights}: add --published AP to compare with, or --against the weights "
            "it was exported from"
        )
    checks: list[Check] = []
    exactly: dict[str, Any] = {"detector": "full-image", "batch_size": 32, "precision": "fp32"}
    found = load(weights, flip_test=flip_test, **exactly)
    expected = None if published is None else ("published", published)
    with progress("images") as show:
        name = Path(weights).name
        if against is not None:
            origin = load(against, flip_test=flip_test, **exactly)
            images = synthetic_persons() if data is None else persons_of(*data[:2])
            checks += compare_models(name, found, origin, images)
            if data is not None and expected is None:
                expected = (Path(against).name, primary_metric(origin, *data, progress=show)[1])
        if data is not None and expected is not None:
            what, value = primary_metric(found, *data, progress=show)
            label = f"{what}: {value:.4f}, {expected[0]} {expected[1]:.4f}"
            checks.append(Check(label, name, abs(value - expected[1]), tolerance))
    return checks


def _show(certificate: "Certificate", is_part: bool) -> None:
    from hrpose.evaluation.parity.comparisons import library_versions

    rows = [
        (
            check.what,
            check.on,
            f"{check.difference:.1e} {check.unit}".strip() if check.difference else "0",
            f"{check.tolerance:.0e}" if check.tolerance else "0",
            "yes" if check.equal else "NO",
        )
        for check in certificate.checks
    ]
    table(rows, "what", "on", "difference", "at most", "equal")
    for what, why in certificate.not_run:
        say(f"not run: {what} ({why})")
    say(", ".join(f"{name} {version}" for name, version in library_versions().items()))
    if is_part:
        say("golden vectors: those in the package; --golden DIR for others")
    unequal = sum(not check.equal for check in certificate.checks)
    verdict = f"{unequal:,} not equal" if unequal else "all equal"
    say(f"{counted(len(certificate.checks), 'comparison')}, {verdict}")


_PANELS = _USE, _MEASURE, _TRAIN, _DATA, _WEIGHTS = "Use", "Measure", "Train", "Data", "Weights"


class _ByPanel(TyperGroup):
    """Commands in the order of their panels; Typer has groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        panels = {name: vars(command)["rich_help_panel"] for name, command in self.commands.items()}
        return sorted(panels, key=lambda name: _PANELS.index(panels[name]))


_EXAMPLES = "hrpose predict photo.jpg --out out", "hrpose predict -h"
app = group("Human pose estimation with HRNet.", *_EXAMPLES, kind=_ByPanel)
app.callback()(version_option)
add(app, "predict", predict.predict, panel=_USE)
add(app, "measure", measure.measure, panel=_USE)
add(app, "batch", deploy.batch, panel=_USE)
add(app, "serve", deploy.serve, panel=_USE)
add(app, "site", deploy.site, panel=_USE)
add(app, "explain", deploy.explain, panel=_USE)
add(app, "env", env, panel=_USE)
add(app, "evaluate", evaluate.evaluate, panel=_MEASURE)
add(app, "evaluate-detector", evaluate.evaluate_detector, panel=_MEASURE)
add(app, "analyze", evaluate.analyze, panel=_MEASURE)
add(app, "agreement", evaluate.agreement, panel=_MEASURE)
add(app, "verify", verify, panel=_MEASURE)
add(app, "label", label.label, panel=_TRAIN)
add(app, "train", train.train, panel=_TRAIN)
add(app, "train-detector", train.train_detector, panel=_TRAIN)
add(app, "finetune", train.finetune, panel=_TRAIN)
add(app, "convert-config", train.convert_config, panel=_TRAIN)
app.add_typer(data.app, name="data", rich_help_panel=_DATA)
app.add_typer(weights.app, name="weights", rich_help_panel=_WEIGHTS)
add(app, "export", train.export, panel=_WEIGHTS)
add(app, "quantize", train.quantize, panel=_WEIGHTS)
add(app, "summary", train.summary, panel=_WEIGHTS)


def main() -> None:
    """Run a command. A UserError is printed in one line, with exit code 2."""
    # Pillow logs what it also raises, which would be a second line.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    write_any_name()
    try:
        app(prog_name="hrpose")
    except UserError as error:
        report(error)
        sys.exit(NOT_DONE)
