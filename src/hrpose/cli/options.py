"""Options that several commands share."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from hrpose.errors import UserError

# The panels of the help. What has none is under "Options".
MODEL, PERSONS, RESULTS = "Model", "Person detection", "Results"
CLIPS = "Clips and cameras"

Weights = Annotated[
    str,
    typer.Option(
        help="Weights by name (see `hrpose weights list`; hf:owner/name@revision for the Hugging "
        "Face Hub) or a file (.onnx, .safetensors, .ckpt).",
        rich_help_panel=MODEL,
    ),
]
FlipTest = Annotated[
    bool,
    typer.Option(
        help="Average over the image and its mirror image: more accurate, twice the work.",
        rich_help_panel=MODEL,
    ),
]
FlipTestOfWeights = Annotated[
    bool,
    typer.Option(
        help="With --weights: average over the image and its mirror image.", rich_help_panel=MODEL
    ),
]
Detector = Annotated[
    str,
    typer.Option(
        help="The person detector: auto (the best one installed), finder (built in), whole (none: "
        "the full image is the box of one person), torchvision, one of `hrpose weights list`, or "
        "an ONNX file.",
        rich_help_panel=PERSONS,
    ),
]
BoxThreshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Drop detected boxes with a lower score; by default the detector's own threshold.",
        rich_help_panel=PERSONS,
    ),
]
Refine = Annotated[
    bool,
    typer.Option(
        help="Estimate twice, the second time in a box around the first keypoints: for loose "
        "boxes.",
        rich_help_panel=MODEL,
    ),
]
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder for the results.", rich_help_panel=RESULTS)
]
# As in hrpose.poses, which the start of a command does not wait for.
THRESHOLD = 0.3
Threshold = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Keypoints with a lower score count as absent and are not drawn.",
        rich_help_panel=RESULTS,
    ),
]
InputSize = Annotated[
    str | None, typer.Option(metavar="WIDTHxHEIGHT", help="In pixels, such as 192x256.")
]
Data = Annotated[Path, typer.Option(help="The folder that the recipe's data paths start from.")]
RunFolder = Annotated[Path | None, typer.Option(help="Checkpoints and logs; by default runs/NAME.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: optimizer.lr=5e-4."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Crops in one batch.", rich_help_panel=MODEL)]
BatchSizeOfWeights = Annotated[
    int, typer.Option(min=1, help="With --weights: crops in one batch.", rich_help_panel=MODEL)
]
Coco = Annotated[Path, typer.Argument(help="COCO keypoints JSON.")]
NewFolder = Annotated[Path, typer.Argument(help="The folder to write, new or empty.")]
Copy = Annotated[bool, typer.Option("--copy", help="Copy the pictures; else they are linked to.")]
_PICTURES = "Its pictures: a folder, images.zip or images.zip@/folder"
Images = Annotated[str, typer.Option(help=f"{_PICTURES}.")]
ImagesIfAny = Annotated[str | None, typer.Option(help=f"{_PICTURES}.")]
ImagesBeside = Annotated[
    Path | None, typer.Option(help=f"{_PICTURES}; by default images beside the file.")
]
# Where the tool that gets the files has the pictures, and only a copy of them needs to find them.
CopyToo = Annotated[
    bool,
    typer.Option("--copy", help="Copy the pictures too; else only the tool's files are written."),
]
ImagesToCopy = Annotated[
    Path | None,
    typer.Option(help=f"{_PICTURES}; by default images beside the file; used with --copy."),
]

# What `--save` knows, and what each is.
KINDS = {
    "pictures": "drawn images and clips",
    "coco": "COCO keypoint results, .json",
    "csv": "a table with a row for each keypoint, .csv",
    "parquet": "the same table, .parquet (needs pyarrow)",
    "dataset": "images and COCO annotations, for CVAT and FiftyOne",
}
Save = Annotated[
    str,
    typer.Option(
        help="What to write, separated by commas: "
        + "; ".join(f"{kind} ({what})" for kind, what in KINDS.items())
        + ".",
        rich_help_panel=RESULTS,
    ),
]
# What `--mark` knows: the words that `hrpose.draw` has for it.
MARKS = ("boxes", "ids", "scores", "names")
Mark = Annotated[
    str,
    typer.Option(
        help=f"What to draw beside the skeletons, separated by commas: {', '.join(MARKS)}.",
        rich_help_panel=RESULTS,
    ),
]


def given(context: typer.Context, name: str) -> bool:
    """Whether the user gave this parameter, on the command line or by an environment variable."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT", "PROMPT")


def chosen(option: str, words: str, known: Collection[str]) -> frozenset[str]:
    """The words, between commas, that an option was given. Raises UserError for unknown ones."""
    found = frozenset(word.strip() for word in words.split(",") if word.strip())
    if not found <= set(known):
        raise UserError(
            f"{option}: expected some of {', '.join(known)} with commas between, found '{words}'"
        )
    return found


def parse_input_size(text: str | None) -> tuple[int, int] | None:
    """What `--input-size` says, as (w, h)."""
    from hrpose.passport import LARGEST_SIDE

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
        width, height = (int(part) for part in parts)
        fits = width and height and not width % 32 and not height % 32
        if fits and max(width, height) <= LARGEST_SIDE:
            return width, height
    raise UserError(
        f"--input-size {text}: expected WIDTHxHEIGHT in multiples of 32 up to {LARGEST_SIDE}, "
        "such as 192x256"
    )
