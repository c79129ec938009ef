"""`hrpose`: the entry point. Commands import what they need when they run."""

import logging
import sys
from collections.abc import Callable

import typer

from hrpose._version import __version__
from hrpose.cli import batch, data, evaluate, predict, serve, train, weights
from hrpose.cli.console import NOT_DONE, report, write_any_name
from hrpose.cli.options import examples
from hrpose.errors import UserError, missing

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
    batch.batch: (
        _PREDICTION,
        "hrpose batch archive.zip --out poses",
        "hrpose batch s3://bucket/folder --engine ray --address auto --out poses",
    ),
    serve.serve: (_PREDICTION, "hrpose serve --port 8000"),
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
