"""`hrpose train`, `train-detector`, `finetune`, `convert-config`, `export` and others."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrpose.cli import check_writable, conflict, describe
from hrpose.cli.console import conclude, counted, is_quiet, note, plain_console, say, warn
from hrpose.cli.options import (
    MODEL,
    Annotations,
    Category,
    Data,
    EveryEpoch,
    FlipTest,
    Images,
    InputSize,
    MergeCategories,
    NewFile,
    Overrides,
    Resume,
    ResumeWithChanges,
    RunFolder,
    parse_input_size,
)

if TYPE_CHECKING:
    from hrpose.training.recipe_checks import Finding


@describe(
    "hrpose train recipes/w32-coco-256x192.yaml --data data",
    "hrpose train recipes/w32-coco-256x192.yaml --data data --set optimizer.lr=5e-4 --check",
    name="the name of the recipe",
    persons="number of persons to train on; null but with --check",
    files="the weights; empty with --check",
)
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe, such as recipes/w32-coco-256x192.yaml.")],
    data: Data = Path("data"),
    category: Category = None,
    merge_categories: MergeCategories = False,
    out: RunFolder = None,
    overrides: Overrides = None,
    every_epoch: EveryEpoch = False,
    resume: Resume = False,
    resume_with_changes: ResumeWithChanges = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the recipe, the data and the weights.")
    ] = False,
) -> None:
    """Train a pose model by a recipe. Warnings about the recipe and the data come first."""
    from hrpose.training import train as train_module
    from hrpose.training.distributed import launched
    from hrpose.training.recipe import load_recipe

    chosen = (*_categories(category, merge_categories), *_every_epoch(every_epoch))
    loaded = load_recipe(recipe, (*(overrides or ()), *chosen))
    if check:
        datamodule, _ = train_module.check(loaded, data, report, launched())
        persons = len(datamodule.train_table)
        if launched().first:
            conclude(name=loaded.name, persons=persons, files=[])
            say(f"{loaded.name}: ready to train on {counted(persons, 'person')}")
        return
    destination = out or Path("runs") / loaded.name
    weights = train_module.train(
        loaded,
        data,
        destination,
        resume or resume_with_changes,
        report,
        with_changes=resume_with_changes,
        quiet=is_quiet(),
    )
    if launched().first:
        conclude(name=loaded.name, persons=None, files=[weights])
        say(f"wrote {weights}")


def _categories(category: str | None, merge: bool) -> list[str]:
    """Both options as overrides of a recipe, which has them too."""
    named = [] if category is None else [f"data.category={json.dumps(category)}"]
    return [*named, *["data.merge_categories=true"] * merge]


def _every_epoch(keep: bool) -> list[str]:
    """The option as an override of a recipe."""
    return ["training.keep_every_epoch=true"] * keep


def report(finding: "Finding") -> None:
    """Print a finding of the recipe checks."""
    (note if finding.level == "note" else warn)(str(finding))


@describe(
    "hrpose train-detector recipes/person-detector.yaml --data data",
    "hrpose train-detector recipes/person-detector.yaml --data data --out runs/mine --resume",
    name="the name of the recipe",
    files="the weights",
)
def train_detector(
    recipe: Annotated[Path, typer.Argument(help="Recipe, such as recipes/person-detector.yaml.")],
    data: Data = Path("data"),
    out: RunFolder = None,
    overrides: Overrides = None,
    resume: Resume = False,
    resume_with_changes: ResumeWithChanges = False,
) -> None:
    """Train a person detector on images in which every person has a box."""
    from hrpose.training.person_detector.train import train
    from hrpose.training.recipe import DetectorRecipe
    from hrpose.yaml_file import load_as

    loaded = load_as(recipe, overrides or (), DetectorRecipe)
    weights = train(
        loaded,
        data,
        out or Path("runs") / loaded.name,
        resume or resume_with_changes,
        report,
        with_changes=resume_with_changes,
        quiet=is_quiet(),
    )
    conclude(name=loaded.name, files=[weights])
    say(f"wrote {weights}")


@describe(
    "hrpose finetune train.json val.json --out runs/horses",
    "hrpose finetune train.json val.json --images train.zip --weights w32-coco-256x192",
    name="the name of the recipe",
    files="the recipe, and the weights",
)
def finetune(
    train: Annotated[Path, typer.Argument(help="COCO keypoints JSON to train on.")],
    val: Annotated[Path, typer.Argument(help="COCO keypoints JSON for validation.")],
    weights: Annotated[
        str,
        typer.Option(
            help="Weights to start from: a name of `hrpose weights list` or a file.",
            rich_help_panel=MODEL,
        ),
    ] = "w16-small",
    images: Annotated[
        Path | None, typer.Option(help="Images to train on; by default images/ beside TRAIN.")
    ] = None,
    val_images: Annotated[
        Path | None, typer.Option(help="Images for validation; by default images/ beside VAL.")
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="YAML file of `hrpose data skeleton`, corrected.")
    ] = None,
    category: Category = None,
    merge_categories: MergeCategories = False,
    input_size: InputSize = None,
    out: RunFolder = None,
    overrides: Overrides = None,
    every_epoch: EveryEpoch = False,
    resume: Resume = False,
    resume_with_changes: ResumeWithChanges = False,
) -> None:
    """Fine-tune a trained model on keypoints of your own; a recipe is written for you.

    Keypoints with names that the model knows keep its weights. OUT/recipe.yaml holds what was done;
    `hrpose train OUT/recipe.yaml --data .` repeats it.
    """
    from hrpose.training.distributed import launched
    from hrpose.training.train import finetune

    written = finetune(
        train,
        val,
        out,
        start=weights,
        images=images,
        val_images=val_images,
        skeleton=skeleton,
        category=category,
        merge_categories=merge_categories,
        input_wh=parse_input_size(input_size),
        overrides=(*(overrides or ()), *_every_epoch(every_epoch)),
        resume=resume,
        with_changes=resume_with_changes,
        quiet=is_quiet(),
        report=report,
    )
    if launched().first:
        conclude(name=written.stem, files=[written.parent / "recipe.yaml", written])
        say(f"wrote {written}")


@describe(
    "hrpose convert-config td-hm_hrnet-w32_8xb64-210e_coco-256x192.py --out w32.yaml",
    "hrpose convert-config w32_256x192_adam_lr1e-3.yaml --out w32.yaml --keys",
    mapped="an object for each key: `key`, `value`, `meaning`",
    without_effect="the same of keys that hrpose does not need",
    not_supported="the same of keys that hrpose cannot follow",
    files="the recipe",
)
def convert_config(
    config: Annotated[Path, typer.Argument(help="MMPose's (.py), or official (.yaml).")],
    out: NewFile,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the files that it inherits from; by default configs/ above."),
    ] = None,
    keys: Annotated[bool, typer.Option("--keys", help="Print what became of every key.")] = False,
) -> None:
    """To a recipe of `hrpose train`; read as data, nothing of it runs."""
    from hrpose.training.convert_config import write_converted

    sorts, lines = write_converted(config, out, root)
    for line in lines:
        if line.startswith("not supported"):
            warn(line)
    conclude(**sorts, files=[out])
    say(*(lines if keys else lines[-1:]))


class Target(StrEnum):
    """Programs that run pose models in ONNX with steps of their own around them."""

    rtmlib = "rtmlib"


@describe(
    "hrpose export best.safetensors --out best.onnx",
    "hrpose export runs/horses/checkpoints/best.ckpt --out horses.onnx --json",
    "hrpose export w16-small --for rtmlib --out rtmlib.onnx",
    difference="the largest difference from PyTorch: of heatmaps, in standard deviations; of the "
    "outputs of a person detector; null with --for",
    keypoint_difference="that of keypoints, in pixels of the input; null for a person detector; "
    "with --for, that from the model",
    files="the file written",
)
def export(
    weights: Annotated[
        str,
        typer.Argument(
            help="Trained weights: a file (.safetensors, .ckpt; for --for also .onnx) or a name "
            "(see `hrpose weights list`; hf:owner/name@revision)."
        ),
    ],
    out: NewFile,
    half: Annotated[
        bool, typer.Option("--half", help="Store the weights as float16: half the size.")
    ] = False,
    target: Annotated[
        Target | None,
        typer.Option("--for", help="Another program that is to run the file as it is."),
    ] = None,
) -> None:
    """Export weights to ONNX; the result is compared with PyTorch before it is written."""
    from hrpose.api import export

    if target is not None:
        _export_for(target, weights, out, half)
        return
    from hrpose.models.export import DetectorReport

    report = export(weights, out, half=half)
    if isinstance(report, DetectorReport):
        conclude(difference=report.difference, keypoint_difference=None, files=[report.path])
        say(
            f"wrote {report.path}: equal to PyTorch within {report.difference:.1e}; with weights "
            f"rounded to float16, as they are in the file, within {report.file_difference:.1e}"
        )
        return
    conclude(
        difference=report.heatmap_difference,
        keypoint_difference=report.keypoint_difference,
        files=[report.path],
    )
    rounded = (
        f"; with weights rounded to float16, heatmaps within {report.half_difference:.1e}"
        if report.half_difference is not None
        else ""
    )
    say(
        f"wrote {report.path}: heatmaps equal to PyTorch's within "
        f"{report.heatmap_difference:.1e} standard deviations, keypoints within "
        f"{report.keypoint_difference:.1e} px, on {report.crops} crops{rounded}"
    )


def _export_for(target: Target, weights: str, out: Path, half: bool) -> None:
    from hrpose.api import export
    from hrpose.models.rtmlib import PADDING

    report = export(weights, out, half=half, target=target.value)
    conclude(difference=None, keypoint_difference=report.difference, files=[report.path])
    say(
        f"wrote {report.path}: keypoints equal to the model's within {report.difference:.1e} px; "
        "in rtmlib:",
        f'  Custom(..., pose_class="ViTPose", pose="{report.path}", '
        f"pose_input_size={report.input_wh})",
    )
    if report.padding != PADDING:
        warn(
            f"{weights}: rtmlib enlarges boxes by {PADDING:g}, these weights were trained with "
            f"{report.padding:g}; measure what that costs"
        )


@describe(
    "hrpose quantize w16-small --out small.onnx --annotations val.json --images images",
    "hrpose quantize best.onnx --out small.onnx --annotations val.json --images images "
    "--max-drop 0.005 --flip-test",
    before="the scores of the weights, by name",
    after="the same of the quantized weights",
    bytes_before="size of the weights",
    bytes_after="size of the quantized weights",
    calibrated_on="number of persons of the calibration",
    files="the file written",
)
def quantize(
    weights: Annotated[str, typer.Argument(help="A name, or an ONNX file of `hrpose export`.")],
    out: NewFile,
    annotations: Annotations,
    images: Images,
    calibration_annotations: Annotated[
        Path | None, typer.Option(help="COCO keypoints JSON for calibration; by default the same.")
    ] = None,
    calibration_images: Annotated[str | None, typer.Option(help="Images for calibration.")] = None,
    persons: Annotated[int, typer.Option(min=1, help="Persons used for calibration.")] = 200,
    max_drop: Annotated[
        float, typer.Option(min=0, max=1, help="The largest accepted drop of the AP.")
    ] = 0.01,
    flip_test: FlipTest = False,
) -> None:
    """Quantize weights to 8 bits; written only where the AP drops by at most --max-drop."""
    from rich.table import Table

    from hrpose import weights as store
    from hrpose.evaluation.quantize import quantize

    if (calibration_annotations is None) != (calibration_images is None):
        raise conflict("--calibration-annotations and --calibration-images: expected both or none")
    calibration = (
        None
        if calibration_annotations is None or calibration_images is None
        else (calibration_annotations, calibration_images)
    )
    check_writable(out)
    report = quantize(
        store.find(weights),
        out,
        annotations,
        images,
        calibration=calibration,
        persons=persons,
        max_drop=max_drop,
        flip_test=flip_test,
    )
    table = Table(
        title=f"{weights} on {annotations.name}, ground-truth boxes, calibrated on "
        f"{counted(report.calibrated_on, 'person')}"
        + (" of the same set" if calibration is None else f" of {calibration[0].name}")
    )
    for name in ("", "float", "8 bits", "drop"):
        table.add_column(name, justify="left" if not name else "right")
    before, after = report.before, report.after
    for name, value in before.scores.as_dict().items():
        other = after.scores.as_dict()[name]
        table.add_row(name, f"{value:.3f}", f"{other:.3f}", f"{value - other:.3f}")
    table.add_section()
    for name, value, other in zip(
        report.keypoints, before.similarity, after.similarity, strict=True
    ):
        table.add_row(name, f"{value:.3f}", f"{other:.3f}", f"{value - other:.3f}")
    plain_console(100).print(table)
    conclude(
        before=before.scores.as_dict(),
        after=after.scores.as_dict(),
        bytes_before=report.bytes_before,
        bytes_after=report.bytes_after,
        calibrated_on=report.calibrated_on,
        files=[report.path],
    )
    say(
        f"wrote {report.path}: {report.bytes_after / 1e6:.2f} MB instead of "
        f"{report.bytes_before / 1e6:.2f}; keypoints are measured by their mean term of OKS"
    )


@describe(
    "hrpose summary w32 --input-size 288x384",
    "hrpose summary w16-small",
    network="the name of the network",
    keypoints="number of keypoints",
    input_wh="width and height of the input",
    parameters="number of parameters",
    macs="number of multiply-accumulates for one crop",
    stages="an object for each stage: `stage`, `parameters`, `macs`",
)
def summary(
    network: Annotated[
        str, typer.Argument(help="A network (w32, w48), or weights by name (w16-small) or file.")
    ],
    input_size: InputSize = None,
) -> None:
    """Print parameters and multiply-accumulates of each stage of a network, for one crop."""
    from rich.table import Column, Table

    from hrpose.errors import UserError
    from hrpose.metadata import Metadata
    from hrpose.models import NETWORKS
    from hrpose.models.build import build, summarize
    from hrpose.session import open_session
    from hrpose.weights import EMBEDDED, find

    # `w16-small` is both a network and weights, which have an input size.
    only_network = network in NETWORKS and network not in EMBEDDED
    metadata = (
        Metadata(network, (192, 256)) if only_network else open_session(find(network)).metadata
    )
    if metadata.network not in NETWORKS:
        raise UserError(
            f"{network}: expected weights of {', '.join(NETWORKS)}, found those of "
            f"'{metadata.network}'",
            code="weights-unsuitable",
        )
    input_wh = parse_input_size(input_size) or metadata.input_wh
    model = build(metadata.network, len(metadata.skeleton))
    stages = summarize(model, input_wh)
    table = Table(
        "stage",
        Column("parameters", justify="right"),
        Column("GMACs", justify="right"),
        title=f"{metadata.network}: {model.num_keypoints} keypoints, {input_wh[0]}x{input_wh[1]}",
    )
    for cost in stages:
        table.add_row(cost.stage, f"{cost.parameters:,}", f"{cost.macs / 1e9:.3f}")
    table.add_section()
    parameters, macs = sum(c.parameters for c in stages), sum(c.macs for c in stages)
    table.add_row("all", f"{parameters:,}", f"{macs / 1e9:.3f}")
    plain_console().print(table)
    conclude(
        network=metadata.network,
        keypoints=model.num_keypoints,
        input_wh=input_wh,
        parameters=parameters,
        macs=macs,
        stages=stages,
    )
