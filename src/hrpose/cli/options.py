"""Options that several commands share."""

from typing import Annotated

import typer

Weights = Annotated[
    str, typer.Option(help="A name (w16-small) or a file (.onnx, .safetensors, .ckpt).")
]
FlipTest = Annotated[
    bool,
    typer.Option(help="Average over the picture and its mirror image: better, and twice the work."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Crops that go through the network at once.")]
