"""What a training shows: progress on the error stream, `results.csv`, and its curves, as a page and
as one image for where no browser is.
"""

import csv
import io
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from numpy.typing import NDArray

from hrpose.image import encode
from hrpose.io import write_atomically
from hrpose.skeleton import Color
from hrpose.viz.grids import PAPER, extent, shortened, write
from hrpose.viz.html import Line, document, line_chart, ticks

if TYPE_CHECKING:
    from rich.progress import Progress


def measured(trainer: L.Trainer) -> Iterator[tuple[str, float]]:
    """The names and values of the last evaluation, the loss last."""
    found = {name: value for name, value in trainer.callback_metrics.items() if name[:4] == "val/"}
    for name in sorted(found, key=lambda name: name == "val/loss"):
        yield name.removeprefix("val/"), float(found[name])


def rate(trainer: L.Trainer) -> float:
    """The learning rate: that of the head, the largest."""
    return max(float(g["lr"]) for optimizer in trainer.optimizers for g in optimizer.param_groups)


# The colors of the pages' curves, and of their texts and rules.
COLORS: tuple[Color, ...] = (
    *((0, 114, 196), (217, 119, 6), (47, 158, 110)),
    *((168, 85, 199), (207, 63, 79), (91, 100, 114)),
)
_INK: Color = (28, 32, 40)
_QUIET: Color = (91, 100, 114)
_RULE: Color = (227, 230, 235)

# In pixels: a chart, the margins around its box, and its text.
_WIDTH, _HEIGHT = 820, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 96, 24, 76, 64
_TITLE, _TEXT = 24, 20
# Bits behind the point of coordinates that OpenCV draws at.
_SHIFT = 4


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """`lines` whose y are relative to `most`, the value at the top; several have a key above them,
    one has the `title`.
    """

    title: str
    lines: Sequence[Line]
    most: float = 1.0


def draw_charts(
    charts: Sequence[Chart], x_title: str, x_range: tuple[float, float], columns: int = 2
) -> NDArray[np.uint8]:
    """The charts beside and below each other, (h, w, 3) uint8 RGB, all over the same `x_range`."""
    columns = min(columns, len(charts))
    rows = -(-len(charts) // columns)
    canvas = np.full((rows * _HEIGHT, columns * _WIDTH, 3), PAPER, np.uint8)
    for index, chart in enumerate(charts):
        row, column = divmod(index, columns)
        top, left = row * _HEIGHT, column * _WIDTH
        _draw(canvas[top : top + _HEIGHT, left : left + _WIDTH], chart, x_title, x_range)
    return canvas


def _draw(
    canvas: NDArray[np.uint8], chart: Chart, x_title: str, x_range: tuple[float, float]
) -> None:
    """A chart over all of the canvas, which may be a part of a larger one."""
    low, high = x_range
    inner_w, inner_h = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    pixels = canvas.copy()  # OpenCV draws on whole arrays only

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + (x - low) / (high - low) * inner_w, _TOP + (1 - y) * inner_h

    if len(chart.lines) == 1:
        title = shortened(chart.title, _TITLE, inner_w)
        write(pixels, (_LEFT, _TOP - 44), title, _TITLE, _INK, rim=None)
    for value in ticks(0, chart.most, 5):
        _, y = at(low, value / chart.most)
        cv2.line(pixels, (_LEFT, round(y)), (_WIDTH - _RIGHT, round(y)), _RULE, 1)
        width, height = extent(text := f"{value:.4g}", _TEXT)
        write(pixels, (_LEFT - 10 - width, y - height / 2), text, _TEXT, _QUIET, rim=None)
    for value in ticks(low, high, min(8, max(1, round(high - low)))):
        x, _ = at(value, 0)
        width, _ = extent(text := f"{value:.4g}", _TEXT)
        write(pixels, (x - width / 2, _HEIGHT - _BOTTOM + 6), text, _TEXT, _QUIET, rim=None)
    width, height = extent(x_title, _TEXT)
    middle = (_LEFT + (inner_w - width) / 2, _HEIGHT - height - 4)
    write(pixels, middle, x_title, _TEXT, _QUIET, rim=None)
    at_x = float(_LEFT)
    for index, line in enumerate(chart.lines):
        color = COLORS[index % len(COLORS)]
        points = np.array([at(x, y) for x, y in zip(line.x, line.y, strict=True)])  # type: ignore[arg-type]
        path = np.rint(points * 2**_SHIFT).astype(np.int32)
        cv2.polylines(pixels, [path], False, color, 3, cv2.LINE_AA, _SHIFT)
        if line.dots:
            for x, y in path.tolist():
                cv2.circle(pixels, (x, y), 5 << _SHIFT, color, -1, cv2.LINE_AA, _SHIFT)
        if len(chart.lines) == 1:
            break
        cv2.line(pixels, (round(at_x), _TOP - 28), (round(at_x) + 22, _TOP - 28), color, 4)
        write(pixels, (at_x + 28, _TOP - 40), line.name, _TEXT, _INK, rim=None)
        at_x += 28 + extent(line.name, _TEXT)[0] + 18
    canvas[:] = pixels


class History(Callback):
    """Keeps a table of a training, and its curves, in the training's folder `out`.

    `results.csv` has a row for each evaluation: `epoch`, `step`, `lr`, `train loss` (the mean since
    the evaluation before), and all metrics. `curves.html` and `curves.png` show them. A resumed
    training continues the table: rows of epochs that are trained again are replaced.
    """

    def __init__(self, out: Path, best: ModelCheckpoint) -> None:
        self._out, self._metric = out, str(best.monitor).removeprefix("val/")
        self._rows: list[dict[str, float]] = []
        self._loss: Any = 0.0
        self._steps = 0

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        table = self._out / "results.csv"
        if trainer.current_epoch and table.is_file():
            rows = csv.DictReader(io.StringIO(table.read_text("utf-8")))
            kept = [{k: float(v) for k, v in row.items() if v} for row in rows]
            self._rows = [row for row in kept if row["epoch"] <= trainer.current_epoch]

    def on_train_batch_end(self, *given: Any) -> None:
        outputs = given[2]
        self._loss = self._loss + (outputs["loss"] if isinstance(outputs, dict) else outputs)
        self._steps += 1

    def on_validation_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "lr": rate(trainer)}
        if self._steps:
            row["train loss"] = float(self._loss) / self._steps
        for name, value in measured(trainer):
            row["val loss" if name == "loss" else name] = value
        self._loss, self._steps = 0.0, 0
        self._rows = [*(r for r in self._rows if r["epoch"] < row["epoch"]), row]
        names = list(dict.fromkeys(name for r in self._rows for name in r))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in r.items()} for r in self._rows)
        write_atomically(self._out / "results.csv", text.getvalue())
        charts = list(self._charts(names))
        epochs = (1.0, max(2.0, self._rows[-1]["epoch"]))
        write_atomically(self._out / "curves.html", self._page(charts, epochs))
        image = draw_charts(charts, "epoch", epochs)
        write_atomically(self._out / "curves.png", encode(image, ".png"))

    def _charts(self, names: list[str]) -> Iterator[Chart]:
        """The curves of the table, those of a kind together."""
        metrics = [name for name in names if name not in ("epoch", "step", "lr", *_LOSSES)]
        percent = [name for name in metrics if name.startswith("PCK")]
        shares = [name for name in metrics if name not in percent and self._most([name]) <= 1]
        # As many curves in a chart as there are colors.
        for start in range(0, len(shares), 6):
            yield self._chart(shares[start : start + 6], 1.0)
        if percent:
            yield self._chart(percent, 100.0)
        others = [[name] for name in metrics if name not in shares + percent]
        for group in ([name for name in _LOSSES if name in names], ["lr"], *others):
            if group and self._most(group) > 0:
                yield self._chart(group, self._most(group))

    def _most(self, names: list[str]) -> float:
        return max(row.get(name, 0.0) for row in self._rows for name in names)

    def _chart(self, names: list[str], most: float) -> Chart:
        """The values over epochs, relative to `most`."""
        lines = []
        for name in names:
            pairs = np.array([(r["epoch"], r[name]) for r in self._rows if name in r], float)
            y = np.clip(pairs[:, 1] / most, 0, 1)
            lines.append(Line(name, pairs[:, 0], y, dots=len(pairs) < 30))
        return Chart(", ".join("learning rate" if n == "lr" else n for n in names), lines, most)

    def _page(self, charts: Sequence[Chart], epochs: tuple[float, float]) -> str:
        drawn = []
        for chart in charts:
            scale = "" if chart.most == 1 else f" (1.0 is {chart.most:.3g})"
            drawn.append(line_chart(chart.lines, "epoch", f"{chart.title}{scale}", epochs))
        last = self._rows[-1]
        header = f"<p>After epoch {last['epoch']:.0f}, step {last['step']:.0f}.</p>"
        text = '<p>The numbers are in <a href="results.csv">results.csv</a>.</p>'
        main = f'{text}<section class="charts">{"".join(drawn)}</section>'
        return document(f"{self._out.name}: training", "hrpose.evaluation", header, main, "hrpose")


_LOSSES = ("train loss", "val loss")
# Without a terminal, seconds after which a line is printed though there was no evaluation.
_SILENCE = 300.0


class ShowProgress(Callback):
    """Shows a training on the error stream: a bar on a terminal, and lines for each evaluation.

    `best` has the metric and the best value so far, `batch_size` is that of all processes together.
    The loss is the mean since the last evaluation; a second line has all other metrics.
    """

    def __init__(self, best: ModelCheckpoint, batch_size: int) -> None:
        self._best, self._batch_size = best, batch_size
        self._metric = str(best.monitor).removeprefix("val/")
        self._bar: Progress | None = None
        self._scores = ""
        self._began = self._mark = self._trained = self._last = time.monotonic()
        self._first_step = self._steps = 0
        self._loss: Any = 0.0

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        self._first_step = trainer.global_step
        self._began = self._last = time.monotonic()
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
            self._bar.add_task("", total=None, facts="")

    def on_train_epoch_start(self, *_: Any) -> None:
        self._mark, self._steps, self._loss = time.monotonic(), 0, 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        self._steps += 1
        # A tensor, which the device is not asked for until a line is written.
        self._loss = self._loss + (outputs["loss"] if isinstance(outputs, dict) else outputs)
        now = self._trained = time.monotonic()
        total = int(trainer.num_training_batches)
        wait = _SILENCE if self._bar is None else 0.25
        if now - self._last >= wait:
            self._last = now
            if self._bar is None:
                self._print(f"{self._epoch(trainer)}, step {index + 1} of {total}", trainer)
            else:
                text = ", ".join(self._facts(trainer))
                self._bar.update(
                    self._bar.task_ids[0], description=self._epoch(trainer), facts=text,
                    completed=index + 1, total=total,
                )  # fmt: skip

    def on_validation_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        index, batches = rest[3], trainer.num_val_batches
        if self._bar is not None and batches:
            self._bar.update(
                self._bar.task_ids[0], description="evaluation", completed=index + 1,
                total=int(batches[0]),
            )  # fmt: skip

    def on_validation_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        value = trainer.callback_metrics.get(str(self._best.monitor))
        if value is None:
            return
        known = self._best.best_model_score
        choose = max if self._best.mode == "max" else min
        best = float(value) if known is None else choose(float(value), float(known))
        self._scores = f"{self._metric} {float(value):.3f} (best {best:.3f})"
        self._print(self._epoch(trainer), trainer)
        names = {"loss": "val loss"}
        others = [
            f"{names.get(name, name)} {value:.4g}"
            for name, value in measured(trainer)
            if name != self._metric
        ]
        if others:
            self._say(f"hrpose:   {', '.join(others)}, learning rate {rate(trainer):.2g}")
        self.on_train_epoch_start()

    def on_train_end(self, *_: Any) -> None:
        self._close()

    def on_exception(self, *_: Any) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _epoch(self, trainer: L.Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"

    def _print(self, what: str, trainer: L.Trainer) -> None:
        self._last = time.monotonic()
        self._say(f"hrpose: {what}: {', '.join(self._facts(trainer))}")

    def _say(self, line: str) -> None:
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.console.print(line, markup=False, highlight=False)

    def _facts(self, trainer: L.Trainer) -> Iterator[str]:
        """The loss, the metric, the speed and the time left, as far as they are known."""
        now = time.monotonic()
        if self._steps:
            yield f"loss {float(self._loss) / self._steps:.3g}"
        if self._scores:
            yield self._scores
        if self._steps:
            samples = self._steps * self._batch_size
            yield f"{samples / max(self._trained - self._mark, 1e-9):.0f} samples/s"
        done = trainer.global_step - self._first_step
        left = trainer.estimated_stepping_batches - trainer.global_step
        if done and 0 < left < float("inf"):
            yield f"{timedelta(seconds=round((now - self._began) / done * left))} left"


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=8),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        console=Console(stderr=True),
        transient=True,
    )
