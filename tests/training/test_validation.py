"""The validation of a training measures what `hrpose evaluate` measures."""

import csv
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from conftest import ROOT
from hrpose import api
from hrpose.evaluation.evaluate import METRICS
from hrpose.metadata import Metadata
from hrpose.models.hrnet import HRNet
from hrpose.synthetic import write_dataset
from hrpose.training.recipe import Evaluation, load_recipe
from hrpose.training.train import train

SMALL = (
    *("weights=w16-small", "codec.name=udp", "optimizer.lr=1e-5"),
    *("training.epochs=1", "training.samples_per_epoch=8"),
)


def logged(out: Path) -> dict[str, float]:
    """What the only validation of a training has logged."""
    with (out / "csv" / "version_0" / "metrics.csv").open() as file:
        (row,) = (row for row in csv.DictReader(file) if row["val/AP"])
    validated = {name: value for name, value in row.items() if name.startswith("val/")}
    return {name.removeprefix("val/"): float(value) for name, value in validated.items()}


@pytest.mark.parametrize(("flip_test", "gain"), [(False, 1), (True, 4)])
def test_a_training_logs_the_ap_of_evaluate_to_the_last_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip_test: bool, gain: float
) -> None:
    annotations = [write_dataset(tmp_path / part, 8, i) for i, part in enumerate(("val", "train"))]
    forward = HRNet.forward

    def louder(network: HRNet, images: Tensor) -> Tensor:
        """With a gain of 4 most peaks are above 1."""
        return forward(network, images) * gain

    monkeypatch.setattr(HRNet, "forward", louder)
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


def test_recipes_choose_by_the_same_names() -> None:
    assert get_args(Evaluation.model_fields["metric"].annotation) == METRICS
