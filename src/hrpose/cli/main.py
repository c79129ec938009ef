"""`hrpose`: the entry point. Commands import what they need when they run."""

import logging
import sys

import typer

from hrpose._version import __version__
from hrpose.cli import (
    batch,
    data,
    evaluate,
    explain,
    models,
    parity,
    predict,
    serve,
    train,
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
app.command("batch")(batch.batch)
app.command("explain")(explain.explain)
app.command("evaluate")(evaluate.evaluate)
app.command("analyze")(evaluate.analyze)
app.command("evaluate-detector")(evaluate.evaluate_detector)
app.command("train")(train.train)
app.command("finetune")(train.finetune)
app.command("train-detector")(train.train_detector)
app.command("export")(models.export)
app.command("quantize")(models.quantize)
app.command("verify")(parity.verify)
app.command("summary")(models.summary)
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
        print(f"hrpose: {error} [{error.code}]", file=sys.stderr)
        sys.exit(2)
