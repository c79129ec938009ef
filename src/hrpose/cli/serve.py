"""`hrpose serve`: poses over HTTP."""

from typing import Annotated

import typer

from hrpose.cli.options import Detector, Weights
from hrpose.errors import UserError, missing

# The bounds of `hrpose.image`, whose import would slow down `--help`.
MAX_MEGABYTES, MAX_MEGAPIXELS = 200, 100


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 accepts other machines.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    weights: Weights = "w16-small",
    detector: Detector = "auto",
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="Batches that run at the same time; they share the cores."
        ),
    ] = 1,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="HRPOSE_TOKEN",
            help="Require this bearer token. Safer in the environment: other users can read a "
            "command line.",
        ),
    ] = None,
    max_megabytes: Annotated[
        float, typer.Option(min=0.001, max=MAX_MEGABYTES, help="Largest accepted image file.")
    ] = 20,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=MAX_MEGAPIXELS, help="Largest accepted image.")
    ] = 40,
) -> None:
    """Serve poses over HTTP, with a demo page at /. SIGTERM or Ctrl-C stops it."""
    try:
        from hrpose.serve.middleware import Limits
        from hrpose.serve.server import listen, serve, url_of
    except ModuleNotFoundError as error:
        raise missing("serve", error, "hrpose[serve]") from error
    from hrpose import weights as registry
    from hrpose.detection import open_detector
    from hrpose.session import open_session, usable_cores

    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise UserError(
            "--token: expected printable ASCII characters; choose another", code="option-invalid"
        )
    file = registry.find(weights)
    threads = max(1, usable_cores() // workers)
    sessions = [open_session(file, threads) for _ in range(workers)]
    opened = open_detector(detector, threads=threads)
    limits = Limits(max_bytes=round(max_megabytes * 1e6), max_pixels=round(max_megapixels * 1e6))
    with listen(host, port) as listener:

        def ready() -> None:
            typer.echo(f"hrpose: {weights} at {url_of(listener)}; Ctrl-C stops it")
            typer.echo(f"hrpose: person detector: {opened.name}")
            if token is None and not host.startswith(("127.", "localhost", "::1")):
                typer.echo("hrpose: open to everyone who can reach this address; see --token")

        serve(sessions, listener, opened, token=token, limits=limits, ready=ready)
