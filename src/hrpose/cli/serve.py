"""`hrpose serve`: poses over HTTP, and a page to see them."""

from typing import Annotated

import typer

from hrpose.cli.options import Detector, Weights
from hrpose.errors import UserError, missing

# What `hrpose.image` reads; importing it takes NumPy and OpenCV, for which `--help` need not wait.
MOST_MEGABYTES, MOST_MEGAPIXELS = 200, 100


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    weights: Weights = "w16-small",
    detector: Detector = "auto",
    workers: Annotated[
        int,
        typer.Option(min=1, max=64, help="Batches that run at once; they share the cores."),
    ] = 1,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="HRPOSE_TOKEN",
            help="Ask requests for this bearer token. Better given by the environment: a command "
            "line can be seen by others.",
        ),
    ] = None,
    max_megabytes: Annotated[
        float, typer.Option(min=0.001, max=MOST_MEGABYTES, help="The largest file of a picture.")
    ] = 20,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, max=MOST_MEGAPIXELS, help="The largest picture.")
    ] = 40,
) -> None:
    """Answer requests for poses over HTTP; the page is at /. SIGTERM or Ctrl-C ends it."""
    try:
        from hrpose.serve.limits import Limits
        from hrpose.serve.run import listen, serve, url_of
    except ModuleNotFoundError as error:
        raise missing("serve", error, "hrpose[serve]") from error
    from hrpose import weights as registry
    from hrpose.detection import open_detector
    from hrpose.onnx_file import usable_cores
    from hrpose.runtime.session import open_session

    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise UserError("--token: expected printable ASCII characters; choose another")
    file = registry.find(weights)
    threads = max(1, usable_cores() // workers)
    sessions = [open_session(file, threads) for _ in range(workers)]
    finder = open_detector(detector, threads=threads)
    limits = Limits(max_bytes=round(max_megabytes * 1e6), max_pixels=round(max_megapixels * 1e6))
    with listen(host, port) as listener:

        def ready() -> None:
            typer.echo(f"hrpose: {weights} at {url_of(listener)}; Ctrl-C ends it")
            typer.echo(f"hrpose: people are found by: {finder.name}")
            if token is None and not host.startswith(("127.", "localhost", "::1")):
                typer.echo("hrpose: everybody who reaches this address may use it; see --token")

        serve(sessions, listener, finder, token=token, limits=limits, ready=ready)
