"""`hrpose`: the entry point. Commands import what they need when they run."""

import logging
import sys

import typer

from hrpose import __version__
from hrpose.cli import (
    analyze,
    convert_weights,
    data,
    evaluate,
    evaluate_boxes,
    explain,
    export,
    finetune,
    predict,
    quantize,
    serve,
    summary,
    train,
    train_finder,
    verify,
    weights,
)
from hrpose.errors import UserError, missing

app = typer.Typer(
    name="hrpose",
    help="Human pose estimation with HRNet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("evaluate")(evaluate.evaluate)
app.command("analyze")(analyze.analyze)
app.command("evaluate-boxes")(evaluate_boxes.evaluate_boxes)
app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.command("train-finder")(train_finder.train_finder)
app.command("export")(export.export)
app.command("quantize")(quantize.quantize)
app.command("convert")(convert_weights.convert)
app.command("verify")(verify.verify)
app.command("summary")(summary.summary)
app.command("serve")(serve.serve)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hrpose {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    pass


def main() -> None:
    """Run a command. What the user can mend is said in one line, with exit code 2."""
    # Pillow logs what it also raises; the user gets one line, not two.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    try:
        try:
            app()
        except ModuleNotFoundError as error:
            raise missing("this", error, "hrpose[train]") from error
    except UserError as error:
        print(f"hrpose: {error}", file=sys.stderr)
        sys.exit(2)
