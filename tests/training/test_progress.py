"""What a training shows while it runs."""

import csv
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hrpose.image import read_image
from hrpose.training import progress as module
from hrpose.training.progress import COLORS, Chart, History, ShowProgress, draw_charts
from hrpose.viz.html import Line


def show(monkeypatch: pytest.MonkeyPatch, stream: Any, mode: str = "max") -> None:
    """Two epochs of four steps of 0.5 s, each with an evaluation."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", stream)
    best: Any = SimpleNamespace(monitor="val/AP", mode=mode, best_model_score=None)
    trainer: Any = SimpleNamespace(
        current_epoch=0, max_epochs=2, global_step=0, num_training_batches=4, num_val_batches=[1],
        callback_metrics={}, estimated_stepping_batches=8,
    )  # fmt: skip
    callback, network = ShowProgress(best, batch_size=16), Any
    callback.on_train_start(trainer, network)  # type: ignore[arg-type]
    for epoch, score in enumerate((0.5, 0.25)):
        trainer.current_epoch = epoch
        callback.on_train_epoch_start()
        for step in range(4):
            now[0] += 0.5
            trainer.global_step += 1
            loss = {"loss": torch.tensor(0.000123456)}
            callback.on_train_batch_end(trainer, network, loss, None, step)  # type: ignore[arg-type]
        trainer.callback_metrics["val/AP"] = torch.tensor(score)
        callback.on_validation_batch_end(trainer, network, None, None, 0)
        callback.on_validation_end(trainer, network)  # type: ignore[arg-type]
        best.best_model_score = torch.tensor(0.5 if mode == "max" else score)
    callback.on_train_end()


@pytest.mark.parametrize(("mode", "best"), [("max", 0.5), ("min", 0.25)])
def test_a_line_for_each_evaluation(
    monkeypatch: pytest.MonkeyPatch, mode: str, best: float
) -> None:
    show(monkeypatch, stream := io.StringIO(), mode)
    assert stream.getvalue().splitlines() == [
        "hrpose: epoch 1 of 2: loss 0.000123, AP 0.500 (best 0.500), 32 samples/s, 0:00:02 left",
        f"hrpose: epoch 2 of 2: loss 0.000123, AP 0.250 (best {best:.3f}), 32 samples/s",
    ]


def test_a_line_after_a_long_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE", 1.5)
    show(monkeypatch, stream := io.StringIO())
    assert "hrpose: epoch 1 of 2, step 3 of 4: loss 0.000123, 32 samples/s" in stream.getvalue()


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "100")
    show(monkeypatch, stream := Terminal())
    for words in ("epoch 2 of 2", "━", "AP 0.250 (best 0.500)", "samples/s"):
        assert words in stream.getvalue()


def trained(out: Path, epochs: range, score: float) -> None:
    """A training of `epochs`, one step each, with an evaluation of this AP."""
    best: Any = SimpleNamespace(monitor="val/AP")
    rates: Any = SimpleNamespace(param_groups=[{"lr": 0.001}, {"lr": 0.0001}])
    trainer: Any = SimpleNamespace(
        current_epoch=epochs.start, global_step=epochs.start, optimizers=[rates]
    )
    history, network = History(out, best), Any
    history.on_train_start(trainer, network)  # type: ignore[arg-type]
    for epoch in epochs:
        trainer.current_epoch, trainer.global_step = epoch, epoch + 1
        history.on_train_batch_end(trainer, network, {"loss": torch.tensor(0.5)}, None, 0)
        values = {"val/AP": score, "val/PCKh": 87.5, "val/loss": 0.25, "train/loss": 0.1}
        trainer.callback_metrics = {name: torch.tensor(value) for name, value in values.items()}
        history.on_validation_end(trainer, network)  # type: ignore[arg-type]


def test_the_table_of_a_training_goes_on_where_it_is_resumed(tmp_path: Path) -> None:
    trained(tmp_path, range(4), 0.5)
    trained(tmp_path, range(2, 5), 0.75)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["AP"] for row in rows] == ["0.5", "0.5", "0.75", "0.75", "0.75"]
    expected = {"step": "5", "lr": "0.001", "train loss": "0.5", "PCKh": "87.5", "val loss": "0.25"}
    assert expected.items() <= rows[-1].items()
    page = (tmp_path / "curves.html").read_text("utf-8")
    assert page.count("<polyline") == 5
    # AP; PCKh; the losses; the learning rate: two charts in each of two rows.
    height, width, _ = read_image(tmp_path / "curves.png").shape
    assert (width, height) == (2 * 820, 2 * 500)


def test_curves_as_an_image_are_where_their_values_are() -> None:
    line = Line("AP", [1, 2, 3], [0.0, 1.0, 0.5], dots=True)
    image = draw_charts([Chart("AP", [line], 2.0)], "epoch", (1.0, 3.0))
    blue = np.argwhere((image == COLORS[0]).all(axis=-1))
    assert blue.shape[0] > 1000
    top, bottom = blue[:, 0].min(), blue[:, 0].max()
    # At the left the curve is at the bottom of the box, in its middle at the top.
    left, peak = blue[np.argmin(blue[:, 1])], blue[np.argmin(blue[:, 0])]
    assert abs(left[0] - bottom) <= 6
    assert abs(peak[1] - (96 + 820 - 24) / 2) <= 1
    right = blue[np.argmax(blue[:, 1])]
    assert abs(right[0] - (top + bottom) / 2) <= 6


def test_a_new_training_starts_a_new_table(tmp_path: Path) -> None:
    trained(tmp_path, range(2), 0.5)
    trained(tmp_path, range(1), 0.25)
    assert len((tmp_path / "results.csv").read_text("utf-8").splitlines()) == 2


def test_the_second_line_has_all_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    best: Any = SimpleNamespace(monitor="val/AP", mode="max", best_model_score=None)
    trainer: Any = SimpleNamespace(
        current_epoch=0, max_epochs=1, global_step=1, estimated_stepping_batches=1,
        callback_metrics={f"val/{name}": torch.tensor(0.5) for name in ("loss", "AP", "AP75")},
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.001}])],
    )  # fmt: skip
    ShowProgress(best, 16).on_validation_end(trainer, Any)  # type: ignore[arg-type]
    line = stream.getvalue().splitlines()[1]
    assert line.split(":")[1].split(", ") == ["   AP75 0.5", "val loss 0.5", "learning rate 0.001"]
