"""The functions of the library: load, track, measure, train, evaluate, export, and the Hub."""

from __future__ import annotations  # so that help() shows the names of types, not their contents

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, overload

from hrpose.detection.person_detector import AnyDetector, open_detector
from hrpose.engines import asked
from hrpose.errors import UserError, missing
from hrpose.estimator import PoseEstimator
from hrpose.image import ImageSource
from hrpose.keypoint_rcnn import TargetDataset, as_files, kept_as_files
from hrpose.poses import THRESHOLD, Poses
from hrpose.session import open_session
from hrpose.weights import find

if TYPE_CHECKING:
    from hrpose.evaluation.evaluate import Report
    from hrpose.evaluation.predictions import Progress
    from hrpose.measurement import Measurements
    from hrpose.measurement.series import Facing
    from hrpose.models.export import DetectorReport, ExportReport
    from hrpose.models.rtmlib import RtmlibReport
    from hrpose.video import Clip, Frame

_log = logging.getLogger(__name__)


def load(
    name_or_file: str | Path = "w32-small",
    *,
    detector: AnyDetector = "auto",
    box_threshold: float | None = None,
    min_score: float | None = None,
    flip_test: bool = False,
    refine: bool = False,
    exact: bool = False,
    batch_size: int = 16,
    bit_depth: int | None = None,
    covariance: bool = False,
    hands: str | Path | None = None,
    threads: int | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> PoseEstimator:
    """Load weights by name, from a file, or `hf:owner/name`.

    `w32-small` and the faster `w16-small` are inside the package.

    `detector` detects persons where no boxes are given: `auto`, `builtin`, `torchvision`, an ONNX
    file, a function of your own, or `full-image`, which takes each image as the box of one person;
    see `hrpose.detection.open_detector`. Boxes with a score below `box_threshold`, in [0, 1], are
    dropped; by default the threshold is the detector's own. Poses with a score below `min_score`,
    in [0, 1], are dropped; by default 0.25 for detected persons, 0 in given boxes. Large JPEG files
    are decoded at a reduced size where the crops are small anyway; `exact` decodes them at full
    size, as `evaluate` does. `flip_test`, `refine`, `batch_size` (crops) and `bit_depth` (8 to 16,
    of files with more than 8 bits a channel) are those of `PoseEstimator`. With `covariance` poses
    have `Poses.covariance`, how uncertain the place of each keypoint is. `hands` are weights of a
    hand, by name or file: each hand is looked at again with them, and the poses have its keypoints
    too, see `hrpose.second_look.TwoLookEstimator`. The networks run in at
    most `threads` threads, by default on all usable cores. They run on `device`: auto, cpu, cuda,
    cuda:1, tensorrt, coreml, directml, openvino or openvino:GPU, with `precision`: auto, fp32,
    bf16, fp16, or int8 for eight-bit weights; the environment variables HRPOSE_DEVICE and
    HRPOSE_PRECISION say what `auto` is. `auto` takes bf16 on OpenVINO where that is installed and
    the processor computes in bf16, and fp32 with `exact`; `estimator.engine` says what runs.

    Raises UserError where there are no such weights, detector or device.
    """
    if exact and asked(device, precision)[1] == "auto":
        precision = "fp32"
    session = open_session(find(name_or_file), threads, device, precision)
    options: dict[str, Any] = {
        "detector": open_detector(detector, box_threshold, threads, device, precision),
        "min_score": min_score,
        "flip_test": flip_test,
        "refine": refine,
        "exact": exact,
        "batch_size": batch_size,
        "bit_depth": bit_depth,
        "covariance": covariance,
    }
    if hands is None:
        return PoseEstimator(session, **options)
    from hrpose.second_look import TwoLookEstimator

    hand_session = open_session(find(hands), threads, device, precision)
    return TwoLookEstimator(session, hand_session, **options)


def track(
    source: str | Path | Clip,
    name_or_file: str | Path | PoseEstimator = "w32-small",
    *,
    smooth: bool = True,
    **options: Any,
) -> Iterator[tuple[Frame, Poses]]:
    """Each frame of a clip or camera with the poses of its persons, who keep their ids.

    `source` is a clip's file or "camera:0"; `name_or_file` are weights as in `load`, with its
    `options`, or an estimator that `load` returned. `poses.track_ids` are the ids, `frame.time` is
    in seconds, `frame.image` the pixels (h, w, 3) uint8 RGB. `smooth` smooths the keypoints over
    time. Needs `hrpose[video]`. Raises UserError where the source or the weights cannot be read.
    """
    try:
        from hrpose.video import follow
    except ModuleNotFoundError as error:
        raise missing("track", error, "hrpose[video]") from error
    if not isinstance(name_or_file, PoseEstimator):
        name_or_file = load(name_or_file, **options)
    elif options:
        raise TypeError(f"track: {', '.join(options)} belong to load, which made the estimator")
    for frame, poses in follow(name_or_file, source, smooth=smooth):
        height, width = frame.image.shape[:2]
        image = ImageSource(frame.image)
        yield frame, replace(poses, image_wh=(width, height), source=image)


def load_measuring(name_or_file: str | Path, **options: Any) -> PoseEstimator:
    """As `load` with `covariance`; weights without a fit of it are loaded without, and that is
    logged.
    """
    try:
        return load(name_or_file, covariance=True, **options)
    except UserError as error:
        if error.code != "covariance-missing":
            raise
        _log.warning("%s; measuring without intervals", error)
        return load(name_or_file, **options)


def measure(
    sources: str | Path | Sequence[str | Path],
    definitions: str | Path | None = None,
    *,
    weights: str | Path | PoseEstimator = "w32-small",
    skeleton: str | None = None,
    only: Sequence[str] = (),
    height: float | None = None,
    known: str | None = None,
    camera: str | Path | None = None,
    facing: Facing = "auto",
    person: int | None = None,
    threshold: float = THRESHOLD,
    offline: bool = True,
    **options: Any,
) -> Measurements:
    """Angles, tilts, lengths, distances and speeds of persons, with 95 % intervals.

    `sources` are images, folders and clips, which `weights` are loaded for, with the `options` of
    `load`, or results of `hrpose predict` (.jsonl, .json, .csv, .parquet). `definitions` are a YAML
    file; by default those for persons, or the limbs of another skeleton, are measured, and `only`
    names some of them. Lengths are pixels, or meters by the `height` of the person in meters, by
    `known`, two points in pixels and their distance ("x,y,x,y=meters"), or by a calibrated `camera`
    file. `facing` (auto, left, right) is the way the persons face, `person` the only track id that
    is measured, and keypoints with a score below `threshold`, in [0, 1],
    are missing. The poses of clips are repaired and smoothed over time as by `predict --offline`,
    and without `offline` taken as they are in each frame. `skeleton` is that of
    .json results, which do not name it.

    Returns the series of values, which `to_pandas`, `save_csv` and `save_html` write, and
    `repetitions` counts in. Needs `hrpose[measure]`. Raises UserError where a source cannot be
    read or a definition does not fit.
    """
    try:
        from hrpose.measurement import measure_recordings
        from hrpose.measurement.recordings import recordings_of
        from hrpose.measurement.scale import Camera, Scale
    except ModuleNotFoundError as error:
        raise missing("measure", error, "hrpose[measure]") from error

    def estimator(_: object) -> PoseEstimator:
        if isinstance(weights, PoseEstimator):
            return weights
        return load_measuring(weights, **options)

    given = [sources] if isinstance(sources, str | Path) else sources
    recordings, failures = recordings_of(
        [*map(str, given)], estimator, skeleton=skeleton, offline=offline
    )
    if failures:
        raise failures[0]
    return measure_recordings(
        recordings,
        None if definitions is None else Path(definitions),
        only=only,
        height=height,
        scale=None if known is None else Scale.of_points(known, "known"),
        camera=None if camera is None else Camera.read(Path(camera)),
        facing=facing,
        person=person,
        threshold=threshold,
    )


def from_pretrained(repo_id: str, *, revision: str | None = None, **options: Any) -> PoseEstimator:
    """Load weights from the Hugging Face Hub. Needs `hrpose[hub]`; `hf:repo_id` does the same.

    `repo_id` is "owner/name", `revision` a branch, tag or commit of it: a commit's hash always
    gives the same weights. `options` are those of `load`. Only ONNX and safetensors files are read,
    which hold no code; the latter need `hrpose[train]`. Raises UserError where there is no such
    repository or revision, or no network when one is needed.
    """
    from hrpose.weights.hub import HubName

    name = HubName.parse(repo_id if revision is None else f"{repo_id}@{revision}")
    return load(str(name), **options)


def push_to_hub(
    weights_files: str | Path | Sequence[str | Path], repo_id: str, *, private: bool = True
) -> str:
    """Upload weights to the Hugging Face Hub, with metadata and model card. Needs `hrpose[hub]`.

    `weights_files` are an .onnx file, a .safetensors file, or both of the same weights. `repo_id`
    is "owner/name"; a new repository is created `private`. Returns the name `hf:owner/name@commit`,
    which `load` accepts. Raises UserError for a file without hrpose's metadata, and where the Hub
    refuses.
    """
    from hrpose.weights.hub import HubName, push

    files = [weights_files] if isinstance(weights_files, str | Path) else weights_files
    return str(push([Path(file) for file in files], HubName.parse(repo_id), private=private))


def train(
    recipe: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    overrides: Iterable[str] = (),
    resume: bool = False,
    resume_with_changes: bool = False,
) -> Path:
    """Train by a recipe file; returns the path of the best weights. Needs `hrpose[train]`.

    The recipe's paths are relative to the folder `data`; checkpoints and logs are written to `out`,
    and `resume` continues from the last checkpoint there, after a comparison of settings and data;
    `resume_with_changes` continues with others as well. `overrides` change values of the recipe,
    each as `optimizer.lr=5e-4`. Raises UserError for a recipe or data that cannot be trained.
    """
    from hrpose.training.recipe import load_recipe
    from hrpose.training.train import train

    return train(
        load_recipe(Path(recipe), overrides),
        Path(data),
        Path(out),
        resume or resume_with_changes,
        with_changes=resume_with_changes,
    )


def finetune(
    train: str | Path | TargetDataset,
    val: str | Path | TargetDataset,
    out: str | Path | None = None,
    *,
    weights: str | Path = "w16-small",
    images: str | Path | None = None,
    val_images: str | Path | None = None,
    skeleton: str | Path | None = None,
    category: str | None = None,
    merge_categories: bool = False,
    input_size: tuple[int, int] | None = None,
    overrides: Iterable[str] = (),
    resume: bool = False,
    resume_with_changes: bool = False,
) -> Path:
    """Fine-tune weights on keypoints of your own; returns the best weights. Needs `hrpose[train]`.

    `train` and `val` are COCO keypoints files, or data sets of (image, target) as torchvision's,
    which are written to `out`; the best epoch is the one with the best metric on `val`. Their
    `images` and `val_images` are folders, `images.zip` or `images.zip@/folder`, by default `images`
    beside each file. `weights` are those to begin with, by name or file: keypoints with names that
    they know keep theirs. `skeleton` is a YAML file of `hrpose data skeleton`, corrected.
    `category` is the one to read where there are several with keypoints, by its name or id;
    `merge_categories` reads all that have the same keypoints as one. `input_size` is the network's
    input (w, h) in pixels, multiples of 32; by default about as large as that of `weights`, in the
    shape of the boxes.

    A recipe is made for this data and written to `recipe.yaml` in the folder `out`, by default
    `runs/NAME`, with the checkpoints and logs; `overrides` change its values, each as
    `training.epochs=5`, and `train` repeats it. `resume` and `resume_with_changes` are those of
    `train`. Raises UserError, and writes nothing, for data, weights or values that cannot be
    trained.
    """
    from hrpose.training.train import finetune

    def path(given: str | Path | None) -> Path | None:
        return None if given is None else Path(given)

    return finetune(
        kept_as_files(train, path(out), "train", resume or resume_with_changes),
        kept_as_files(val, path(out), "val", resume or resume_with_changes),
        path(out),
        start=weights,
        images=path(images),
        val_images=path(val_images),
        skeleton=path(skeleton),
        category=category,
        merge_categories=merge_categories,
        input_wh=input_size,
        overrides=overrides,
        resume=resume,
        with_changes=resume_with_changes,
    )


def evaluate(
    name_or_file: str | Path,
    annotations: str | Path | TargetDataset,
    images: str | Path | None = None,
    *,
    boxes: str | Path = "ground-truth",
    detector: AnyDetector = "auto",
    box_threshold: float | None = None,
    nms: str = "hard",
    metric: str = "auto",
    max_detections: int = 20,
    category: str | None = None,
    merge_categories: bool = False,
    flip_test: bool = True,
    refine: bool = False,
    batch_size: int = 64,
    device: str = "auto",
    precision: str = "auto",
    out: str | Path | None = None,
    progress: Progress | None = None,
    notify: Callable[[str], None] | None = None,
) -> Report:
    """COCO's ten metrics of weights on a data set, MPII's PCKh or PCK. Needs `hrpose[train]`.

    `annotations` is a COCO keypoints file, `images` a folder, `images.zip` or `images.zip@/folder`;
    or `annotations` is a data set of (image, target) as torchvision's, see `hrpose.keypoint_rcnn`.
    `boxes` is "ground-truth", a COCO detections file, or "detector", which measures the weights and
    `detector` together; detected boxes with a score below `box_threshold`, in [0, 1], are dropped.
    `nms` is "hard" or "soft"; `metric` is "AP", "PCKh", "PCK", "NME", "EPE", the name of a
    benchmark such as "CrowdPose", or "auto", which depends on the annotations; the AP counts the
    `max_detections` best poses of each image, as in the evaluation of COCO with 20. `category` is
    the one to read where they have several with keypoints, by its name or id; `merge_categories`
    reads all that have the same keypoints as one.
    `flip_test`, `refine` and `batch_size` (crops) are those of `PoseEstimator`. `device` and
    `precision` are those of `load`, but auto is always fp32. `metrics.json` and the results are
    written to the folder `out`. `progress` is called with the number of finished images and of all,
    `notify` with what was repaired or left out, line by line, before the work.

    Returns the report: `report.metrics["AP"]`, and the conditions of the measurement.
    Raises UserError for invalid files, and where `detector` or `box_threshold` have no effect with
    these `boxes`. See `hrpose.evaluation.evaluate`.
    """
    from hrpose.data.coco import read_annotations
    from hrpose.evaluation.evaluate import evaluate
    from hrpose.evaluation.predictions import DETECTOR, check_boxes

    check_boxes(boxes, detector, box_threshold)
    detected = str(boxes) == DETECTOR
    estimator = load(
        name_or_file,
        detector=detector if detected else "full-image",
        box_threshold=box_threshold if detected else None,
        flip_test=flip_test,
        refine=refine,
        batch_size=batch_size,
        device=device,
        precision="fp32" if asked(device, precision)[1] == "auto" else precision,
    )
    with as_files(annotations, images, estimator.metadata.skeleton) as (file, pixels):
        return evaluate(
            estimator,
            read_annotations(file, category=category, merge_categories=merge_categories),
            pixels,
            boxes,
            None if out is None else Path(out),
            box_threshold=box_threshold or 0.0,
            nms=nms,
            metric=metric,
            max_detections=max_detections,
            progress=progress,
            notify=notify,
        )


@overload
def export(
    name_or_file: str | Path, out: str | Path, *, half: bool = False, target: None = None
) -> ExportReport | DetectorReport: ...


@overload
def export(
    name_or_file: str | Path, out: str | Path, *, half: bool = False, target: str
) -> RtmlibReport: ...


def export(
    name_or_file: str | Path, out: str | Path, *, half: bool = False, target: str | None = None
) -> ExportReport | DetectorReport | RtmlibReport:
    """Export trained weights to ONNX, after a comparison with PyTorch. Needs `hrpose[train]`.

    `name_or_file` is a .safetensors or .ckpt file of a pose network, a person detector's
    .safetensors, or a name that `load` accepts; `out` ends with `.onnx`. `half` stores the weights
    of a pose network as float16, as those of detectors always are: half the size, computed in
    float32. With the `target` "rtmlib" the file is one that rtmlib runs, and ONNX weights, which
    need only `hrpose[weights]`, are accepted too. Raises UserError, and writes nothing, where the
    weights cannot be read or the results differ by more than the report's bounds.
    """
    if target is None:
        from hrpose.models.export import export

        return export(find(name_or_file), Path(out), half)
    return _export_for(target, find(name_or_file), Path(out), half)


def _export_for(target: str, weights: Path, out: Path, half: bool) -> RtmlibReport:
    if target != "rtmlib":
        raise UserError(f"target: expected rtmlib, found {target!r}", code="option-invalid")
    try:
        from hrpose.models.rtmlib import export_rtmlib
    except ImportError as error:
        raise missing("export for rtmlib", error, "hrpose[weights]") from error
    if weights.suffix == ".onnx":
        if half:
            raise UserError(
                f"half: {weights} is ONNX already, whose weights stay as they are; leave it out",
                code="option-conflict",
            )
        return export_rtmlib(weights, out)
    from hrpose.models.export import export_pose

    with TemporaryDirectory() as folder:
        return export_rtmlib(export_pose(weights, Path(folder) / out.name, half).path, out)
