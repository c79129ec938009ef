"""Trainings: initial weights, MPII, the metrics of evaluate, and the command line."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from conftest import ROOT
from data.mpii_files import write_mpii
from hrpose import api
from hrpose.data.coco import read_annotations
from hrpose.data.formats.mpii import convert
from hrpose.evaluation.evaluate import METRICS
from hrpose.metadata import Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.models.checkpoint import read_torch
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, MPII_16
from hrpose.synthetic import write_dataset
from hrpose.training.recipe import Evaluation, Recipe, load_recipe
from hrpose.training.recipe_checks import Finding
from hrpose.training.train import build_network, read_start, train
from refusals import refused

FIVE = Skeleton("five", ("a", "b", "c", "d", "e"))
OTHER_17 = Skeleton("other", tuple(f"point {i}" for i in range(17)))
HEAD = ["final_layer.weight", "final_layer.bias"]


def recipe_from(weights: Path | str) -> Recipe:
    return load_recipe(ROOT / "recipes" / "synthetic.yaml", [f"weights={weights}"])


@pytest.fixture(scope="module")
def start() -> HRNet:
    """Random weights for COCO's keypoints."""
    torch.manual_seed(0)
    network = HRNet.from_name("w16-small")
    torch.nn.init.ones_(network.final_layer.bias)
    return network


def write(form: str, folder: Path, network: HRNet) -> Path:
    state = network.state_dict()
    path = folder / ("start.safetensors" if form == "hrpose" else "start.pth")
    if form == "hrpose":
        checkpoint.save(path, network, Metadata("w16-small", (96, 128)))
    elif form == "official":
        torch.save(state, path)
    elif form == "mmpose":
        renamed = {
            f"{'head' if key in HEAD else 'backbone'}.{key}": value for key, value in state.items()
        }
        torch.save({"meta": {"epoch": 210}, "state_dict": renamed}, path)
    else:
        backbone = {key: value for key, value in state.items() if key not in HEAD}
        torch.save({**backbone, "fc.bias": state["bn1.bias"]}, path)
    return path


@pytest.mark.parametrize("form", ["hrpose", "official", "mmpose", "imagenet"])
@pytest.mark.parametrize("skeleton", [COCO_17, MPII_16, FIVE, OTHER_17], ids=lambda s: s.name)
def test_weights_to_start_from(tmp_path: Path, start: HRNet, form: str, skeleton: Skeleton) -> None:
    recipe = recipe_from(write(form, tmp_path, start))
    before = start.state_dict()
    found = build_network(recipe, skeleton, read_start(recipe)).state_dict()
    other = [key for key in before if not torch.equal(before[key], found[key])]
    # The backbone is kept; the head of other keypoints is untrained.
    assert other == ([] if skeleton is COCO_17 and form != "imagenet" else HEAD)
    assert found["final_layer.weight"].shape[0] == len(skeleton)
    # It has the official initialization, but for keypoints of the same names.
    if other:
        known = COCO_17.keypoints if form != "imagenet" else ()
        new = [i for i, name in enumerate(skeleton.keypoints) if name not in known]
        assert int(found["final_layer.bias"].count_nonzero()) == len(skeleton) - len(new)
        assert float(found["final_layer.weight"][new].std()) < 0.002


def test_weights_of_another_network_are_refused(tmp_path: Path, start: HRNet) -> None:
    recipe = recipe_from(write("official", tmp_path, start)).model_copy(update={"network": "w32"})
    with refused("weights-unsuitable", "start.pth", "w32", "w16-small"):
        read_start(recipe)


@pytest.mark.parametrize(
    ("weights", "code"),
    [("nowhere.safetensors", "weights-unknown"), ("w32-imagenet", "weights-not-downloaded")],
)
def test_missing_weights_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, code: str
) -> None:
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "empty"))
    for seed, part in enumerate(("train", "val")):
        write_dataset(tmp_path / part, 1, seed)
    with refused(code, weights):
        train(recipe_from(weights), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


RECIPE = ROOT / "recipes" / "synthetic.yaml"
# One thread: the recipe takes two minutes on one core.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
# Few draws in an epoch and small images: enough to resume.
TINY = [
    *("--set", "input_wh=[64, 64]"),
    *("--set", "training.samples_per_epoch=16"),
    *("--set", "training.batch_size=8"),
    *("--set", "training.ema_decay=0.9"),
]


def command(*arguments: object) -> list[str]:
    main = "from hrpose.cli.main import main; main()"
    return [sys.executable, "-c", main, *map(str, arguments)]


def hrpose(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), env=ENVIRONMENT, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    return done


def synthetic(folder: Path, train: int, val: int) -> Path:
    hrpose("data", "synthetic", "--out", folder / "train", "--count", train)
    hrpose("data", "synthetic", "--out", folder / "val", "--count", val, "--seed", 1)
    return folder


def epochs_logged(out: Path) -> list[list[int]]:
    """The epochs that were evaluated, for each start of the training."""
    starts = []
    for path in sorted(out.glob("csv/version_*/metrics.csv")):
        with path.open() as file:
            starts.append([int(row["epoch"]) for row in csv.DictReader(file) if row["val/AP"]])
    return starts


@pytest.mark.slow
def test_the_example_learns_synthetic_persons(tmp_path: Path) -> None:
    """In one epoch, in which the rate falls; the full recipe is twice as good."""
    data, out = synthetic(tmp_path / "data", 1500, 60), tmp_path / "out"
    hrpose("train", RECIPE, "--data", data, "--out", out, "--set", "training.epochs=1")
    hrpose("data", "synthetic", "--out", tmp_path / "unseen", "--count", 60, "--seed", 2)
    hrpose(
        *("evaluate", "--weights", out / "synthetic.safetensors", "--out", tmp_path / "scores"),
        *("--annotations", tmp_path / "unseen" / "annotations.json"),
        *("--images", tmp_path / "unseen" / "images"),
    )
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["AP"] >= 0.4


@pytest.mark.slow
def test_a_killed_training_resumes(tmp_path: Path) -> None:
    data, out = synthetic(tmp_path / "data", 8, 4), tmp_path / "out"
    train = ["train", RECIPE, "--data", data, "--out", out, *TINY]
    last = out / "checkpoints" / "last.ckpt"
    # More epochs than it can finish before the signal comes.
    with subprocess.Popen(
        command(*train, "--set", "training.epochs=10000"),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as killed:
        try:
            patience = time.monotonic() + 300
            while not last.exists() and killed.poll() is None and time.monotonic() < patience:
                time.sleep(0.02)
        finally:
            killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    before = read_torch(last)

    epochs = before["epoch"] + 3
    hrpose(*train, "--set", f"training.epochs={epochs}", "--resume")

    # It was killed before the validation of that epoch was saved, or after it.
    logged = epochs_logged(out)[-1]
    assert logged[0] in (before["epoch"], before["epoch"] + 1)
    assert logged == list(range(logged[0], epochs))
    # Two batches an epoch, none twice, none left out.
    assert read_torch(last)["global_step"] == 2 * epochs
    _, metadata = checkpoint.load(out / "synthetic.safetensors")
    assert metadata.name == "synthetic"
    assert metadata.input_wh == (64, 64)


@pytest.mark.slow
def test_a_folder_with_a_training_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    last = out / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"kept")
    done = subprocess.run(
        command("train", RECIPE, "--data", tmp_path, "--out", out),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert "[folder-not-empty]" in done.stderr
    assert "--resume" in done.stderr
    assert last.read_bytes() == b"kept"


SMALL = (
    *("weights=w16-small", "codec.name=udp", "optimizer.lr=1e-5"),
    *("training.epochs=1", "training.samples_per_epoch=8"),
)


def logged(out: Path) -> dict[str, float]:
    """What the only validation of a training has logged."""
    with (out / "csv" / "version_0" / "metrics.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["val/AP"])
    validated = {
        name: value for name, value in row.items() if name[:4] == "val/" and name != "val/loss"
    }
    return {name.removeprefix("val/"): float(value) for name, value in validated.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("flip_test", "gain"), [(False, 1), (True, 4)])
def test_a_training_logs_the_ap_of_evaluate_to_the_last_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip_test: bool, gain: float
) -> None:
    annotations = [write_dataset(tmp_path / part, 8, i) for i, part in enumerate(("val", "train"))]
    forward = HRNet.forward

    def amplified(network: HRNet, images: Tensor) -> Tensor:
        """With a gain of 4 most peaks are above 1."""
        return forward(network, images) * gain

    monkeypatch.setattr(HRNet, "forward", amplified)
    overrides = (*SMALL, f"evaluation.flip_test={str(flip_test).lower()}")
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", overrides)
    weights = train(recipe, tmp_path, tmp_path / "out")

    def ap_and_all() -> tuple[float, dict[str, float]]:
        images = tmp_path / "val" / "images"
        report = api.evaluate(weights, annotations[0], images, flip_test=flip_test)
        assert report.primary == "AP"
        return report.value, dict(report.metrics)

    validated, (ap, measured) = logged(tmp_path / "out"), ap_and_all()
    assert 0.1 < ap < 0.9
    assert validated["AP"] == ap
    assert validated == pytest.approx(measured, rel=1e-6)

    def clipped(self: Metadata, peaks: NDArray[np.floating], *, clip: bool = True) -> object:
        return np.clip(peaks, 0, 1).astype(np.float32)

    monkeypatch.setattr(Metadata, "keypoint_scores", clipped)
    assert (ap_and_all()[0] == ap) == (gain == 1)


@pytest.mark.slow
def test_a_training_validates_on_other_boxes_as_evaluate_does(tmp_path: Path) -> None:
    annotations = [write_dataset(tmp_path / part, 8, i) for i, part in enumerate(("val", "train"))]
    table = read_annotations(annotations[0]).persons()
    found = [
        {"image_id": int(table.image_ids[image]), "category_id": 1, "bbox": box, "score": score}
        for image, (x, y, w, h) in zip(table.image_index, table.boxes.tolist(), strict=True)
        for box, score in (([x + 3, y, w, 0.9 * h], 0.9), ([x - 9, y, 2 * w, h], 0.6))
    ]
    (boxes := tmp_path / "found.json").write_text(json.dumps([*found, {**found[0], "score": 0.4}]))
    overrides = (
        *SMALL, "evaluation.flip_test=false", "evaluation.boxes=found.json",
        "evaluation.box_threshold=0.5", "training.keep_every_epoch=true",
    )  # fmt: skip
    recipe = load_recipe(ROOT / "recipes" / "synthetic.yaml", overrides)
    reported: list[Finding] = []
    weights = train(recipe, tmp_path, tmp_path / "out", report=reported.append)
    report = api.evaluate(
        weights, annotations[0], tmp_path / "val" / "images", boxes=boxes, box_threshold=0.5,
        flip_test=False,
    )  # fmt: skip
    validated = logged(tmp_path / "out")
    assert report.persons == len(found)
    assert validated["AP"] == report.value > 0
    assert validated == pytest.approx(dict(report.metrics), rel=1e-6)
    lines = "\n".join(finding.text for finding in reported)
    assert f"validating on {len(found)} boxes (found.json)" in lines
    assert "1 file of " in lines
    assert "val loss" not in (tmp_path / "out" / "results.csv").read_text()
    # The only epoch is the best one.
    first = tmp_path / "out" / "epochs" / "epoch-001.safetensors"
    assert first.read_bytes() == weights.read_bytes()


def test_recipes_have_the_metrics_of_evaluate() -> None:
    assert get_args(Evaluation.model_fields["metric"].annotation) == METRICS


CHANGES = {
    "network": "w16-small",
    "weights": "null",
    "input_wh": "[64, 64]",
    "training.epochs": "1",
    "training.batch_size": "2",
    "training.workers": "0",
    "training.debug_images_every": "1",
    "evaluation.flip_test": "false",
}


@pytest.mark.slow
def test_mpii_is_validated_by_pckh(tmp_path: Path) -> None:
    data, out = tmp_path / "mpii", tmp_path / "out"
    convert(write_mpii(data, persons=4), data / "annotations")
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from hrpose.cli.main import main; main()", "train"),
            *(ROOT / "recipes" / "w32-mpii-256x256.yaml", "--data", tmp_path, "--out", out),
            *(part for key, value in CHANGES.items() for part in ("--set", f"{key}={value}")),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr

    _, metadata = checkpoint.load(out / "w32-mpii-256x256.safetensors")
    assert metadata.skeleton == MPII_16
    with (out / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"val/PCKh", "val/PCKh@0.1", "val/Head", "val/Ankle"} <= rows[0].keys()
    assert "val/AP" not in rows[0]
    for name, most in (("val/PCKh", 100), ("train/accuracy_epoch", 1)):
        (value,) = (float(row[name]) for row in rows if row[name])
        assert 0 <= value <= most
    assert (out / "checkpoints" / "best.ckpt").is_file()
    images = sorted(path.name for path in (out / "images").iterdir())
    assert len(images) == 8  # four for each of two steps
    assert images[0] == "00000000_labels.jpg"
