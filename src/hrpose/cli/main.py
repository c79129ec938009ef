"""`hrpose`: the entry point, and `env`. Commands import what they need when they run."""

import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hrpose._version import __version__
from hrpose.cli import data, deploy, evaluate, predict, train, weights
from hrpose.cli.console import NOT_DONE, report, write_any_name
from hrpose.cli.options import Device, Precision, Weights, examples
from hrpose.errors import UserError, missing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hrpose.engines import Engine

# Distributions of ONNX Runtime. All install the same folder: the last one replaces the others.
_ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_PACKAGES = ("hrpose", *_ONNX_RUNTIMES, "openvino", "torch", "numpy", "opencv-python-headless")
# What decides how fast networks are, of the names in /proc/cpuinfo.
_FEATURES = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
    "amx_int8", "amx_fp16", "asimd", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip
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


def env(
    weights: Weights = "w16-small",
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, for programs and bug reports.")
    ] = False,
) -> None:
    """Show versions, devices, what runs each network, and one crop on each engine."""
    found = survey(weights, device, precision)
    typer.echo(json.dumps(found, indent=2) if as_json else _as_text(found))


def survey(weights: str, device: str = "auto", precision: str = "auto") -> dict[str, Any]:
    """All that `hrpose env` shows, as JSON has it."""
    from hrpose.engines import DEVICE_VARIABLE, PRECISION_VARIABLE, openvino_devices, provided
    from hrpose.engines import KINDS as ENGINES
    from hrpose.session import usable_cores
    from hrpose.weights import find

    versions = {name: found for name in _PACKAGES if (found := _installed(name))}
    name, features = processor()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": versions,
        "conflicts": conflicts(versions),
        "processor": name,
        "features": features,
        "cores": usable_cores(),
        "environment": {
            name: os.environ[name]
            for name in (DEVICE_VARIABLE, PRECISION_VARIABLE, "OMP_NUM_THREADS")
            if name in os.environ
        },
        "devices": [
            *(kind for kind in ENGINES if kind != "openvino" and provided(kind)),
            *(f"openvino:{name}" for name in openvino_devices()),
        ],
        "uses": _uses(weights, device, precision),
        "runs": [asdict(run) for run in _runs(find(weights))],
    }


def processor() -> tuple[str, list[str]]:
    """The processor's name, and the features that matter here as far as the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    entries = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = (entries.get("flags") or entries.get("Features") or "").split()
    return entries.get("model name", platform.machine()), [x for x in _FEATURES if x in flags]


def conflicts(installed: "dict[str, str]") -> list[str]:
    """A sentence for each pair of packages that disturb each other."""
    runtimes = [name for name in _ONNX_RUNTIMES if name in installed]
    if len(runtimes) < 2:
        return []
    return [
        f"{' and '.join(runtimes)} overwrite each other's files: pip uninstall all of them, then "
        "install one"
    ]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


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


def _as_text(found: dict[str, Any]) -> str:
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
    return "\n".join(lines)


app = typer.Typer(
    name="hrpose",
    help="Human pose estimation with HRNet: predict, train, evaluate, export and serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_PREDICTION, _EVALUATION = "Prediction", "Evaluation"
_TRAINING, _FILES = "Training", "Weights and data sets"
# The panel of the help, and the examples, of each command.
_COMMANDS: dict[Callable[..., None], tuple[str, *tuple[str, ...]]] = {
    predict.predict: (
        _PREDICTION,
        "hrpose predict photo.jpg clip.mp4 folder/ --out out",
        "hrpose predict camera:0 --show",
        "hrpose predict folder/ --save csv,dataset --detector torchvision",
    ),
    deploy.batch: (
        _PREDICTION,
        "hrpose batch archive.zip --out poses",
        "hrpose batch s3://bucket/folder --engine ray --address auto --out poses",
    ),
    deploy.serve: (_PREDICTION, "hrpose serve --port 8000"),
    env: (_PREDICTION, "hrpose env", "hrpose env --json"),
    predict.explain: (_PREDICTION, "hrpose explain photo.jpg --out explained"),
    evaluate.evaluate: (
        _EVALUATION,
        "hrpose evaluate --weights w32.safetensors --annotations val.json --images images",
        "hrpose evaluate --annotations val.json --images images --boxes detector --out results",
    ),
    evaluate.evaluate_detector: (
        _EVALUATION,
        "hrpose evaluate-detector --annotations val.json --images images --detector yolox-s",
    ),
    evaluate.analyze: (
        _EVALUATION,
        "hrpose analyze results/results.json val.json --images images --weights w16-small",
    ),
    evaluate.verify: (
        _EVALUATION,
        "hrpose verify",
        "hrpose verify --weights best.onnx --against best.safetensors",
    ),
    train.train: (
        _TRAINING,
        "hrpose train recipes/w32-coco-256x192.yaml --data data",
        "hrpose train recipes/w32-coco-256x192.yaml --data data --set optimizer.lr=5e-4",
    ),
    train.train_detector: (
        _TRAINING,
        "hrpose train-detector recipes/person-detector.yaml --data data",
    ),
    train.finetune: (_TRAINING, "hrpose finetune train.json val.json --out runs/horses"),
    weights.export: (_FILES, "hrpose export --weights best.safetensors --out best.onnx"),
    weights.quantize: (
        _FILES,
        "hrpose quantize w16-small small.onnx --annotations val.json --images images",
    ),
    weights.summary: (_FILES, "hrpose summary w32 --input-size 288x384"),
}
for _function, (_panel, *_lines) in _COMMANDS.items():
    _name = _function.__name__.replace("_", "-")
    app.command(_name, rich_help_panel=_panel, epilog=examples(*_lines))(_function)
app.add_typer(weights.app, name="weights", rich_help_panel=_FILES)
app.add_typer(data.app, name="data", rich_help_panel=_FILES)


def _version(given: bool) -> None:
    if given:
        typer.echo(f"hrpose {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """Run a command. A UserError is printed in one line, with exit code 2."""
    # Pillow logs what it also raises, which would be a second line.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    write_any_name()
    try:
        try:
            app()
        except ModuleNotFoundError as error:
            raise missing("this", error, "hrpose[train]") from error
    except UserError as error:
        report(error)
        sys.exit(NOT_DONE)
