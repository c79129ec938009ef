"""Learn from what is labeled: `hrpose finetune` in a process of its own, and its models.

A model is a folder in `models`: the labels that it learned from, the training, its weights as ONNX,
and `model.json`, which says how well it does on persons that were held out.
"""

import csv
import hashlib
import json
import logging
import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrpose.errors import UserError
from hrpose.estimator import InputImage, PoseEstimator
from hrpose.io import read_json, write_atomically
from hrpose.label.project import Project
from hrpose.metrics.oks import keypoint_similarities

# The part of the groups that is held out: a group is a clip, or an image that is no frame.
HELD_OUT = 0.2
# With fewer persons nothing is learned that another person would confirm.
MIN_PERSONS = 8
_FIRST = "w16-small"
_DRAWS = 1000
_EXAMPLES = 6
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Score:
    """The mean OKS of held-out persons, with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the project. `state` is training, stopped, failed or ready.

    `labels` is a hash of the labels that it learned from, `start` the weights it began with;
    `persons` and `held_out` are numbers of persons. `before` is the score of the weights that were
    in use, None where they have other keypoints. `better` and `worse` are images of held-out
    persons, with the change of their OKS. `progress` is the part that is done, in [0, 1].
    """

    name: str
    state: str
    labels: str
    start: str
    made: float
    persons: int
    held_out: int
    progress: float = 0.0
    metric: float | None = None
    reason: str = ""
    score: Score | None = None
    before: Score | None = None
    better: tuple[tuple[int, float], ...] = ()
    worse: tuple[tuple[int, float], ...] = ()

    @property
    def label(self) -> str:
        """What names it, with the labels that it learned from."""
        return f"model {self.name} ({self.labels})"


class Learner:
    """Trains models on a project's labels, one at a time, and keeps them.

    `load(weights)` is the estimator of a file of weights, `current()` the one in use. A model
    begins with the one in use, the first with `w16-small`, which two cores train in minutes.
    `overrides` change the recipe, as `--set` does.
    """

    def __init__(
        self,
        project: Project,
        load: Callable[[str], PoseEstimator],
        current: Callable[[], PoseEstimator | None],
        overrides: Sequence[str] = (),
    ) -> None:
        self._project = project
        self._load = load
        self._current = current
        self._overrides = [word for each in overrides for word in ("--set", each)]
        self._folder = project.folder / "models"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False

    # ---- the models --------------------------------------------------------------------------

    def models(self) -> list[Model]:
        """All models, the newest first."""
        files = sorted(self._folder.glob("*/model.json"), reverse=True)
        return [self._current_state(self._read(file)) for file in files]

    def open(self, name: str) -> tuple[Model, PoseEstimator]:
        """A model that is ready, and its estimator. Raises UserError for others."""
        found = next((model for model in self.models() if model.name == name), None)
        if found is None or found.state != "ready":
            raise UserError(
                f"{name[:100]}: expected a model of this project that is ready, found none",
                code="weights-unknown",
            )
        return found, self._load(str(self._folder / name / "model.onnx"))

    def _read(self, file: Path) -> Model:
        read = read_json(file)
        for key in ("score", "before"):
            read[key] = read[key] and Score(**read[key])
        for key in ("better", "worse"):
            read[key] = tuple((int(image), float(change)) for image, change in read[key])
        return Model(**read)

    def _current_state(self, model: Model) -> Model:
        """What is known of a training right now; without its process it was broken off."""
        if model.state != "training":
            return model
        if self._thread is None or not self._thread.is_alive():
            return replace(model, state="stopped")
        run = self._folder / model.name / "run"
        try:
            rows = list(csv.DictReader((run / "results.csv").read_text("utf-8").splitlines()))
            epochs = re.search(r"\bepochs: ([0-9]+)", (run / "recipe.yaml").read_text("utf-8"))
        except OSError:  # it has just begun
            return model
        if not rows or epochs is None:
            return model
        metric = rows[-1].get("AP") or float(rows[-1].get("PCK@0.2") or "nan") / 100
        done = min(1.0, float(rows[-1]["epoch"]) / int(epochs[1]))
        known = None if math.isnan(float(metric)) else float(metric)
        return replace(model, progress=done, metric=known)

    def _keep(self, model: Model) -> None:
        text = json.dumps(asdict(model), indent=1) + "\n"
        write_atomically(self._folder / model.name / "model.json", text)

    # ---- a training --------------------------------------------------------------------------

    def start(self) -> Model:
        """Train on all images that are done. Raises UserError where these are too few, or a model
        is being trained already.
        """
        with self._lock:
            self._none_runs()
            train, held_out = self.parts()
            counts = len(train["annotations"]), len(held_out["annotations"])
            if sum(counts) < MIN_PERSONS or not all(counts):
                raise UserError(
                    f"learn: expected at least {MIN_PERSONS} labeled persons in images that are "
                    f"done, some of them held out, found {counts[0]} and {counts[1]}; label more",
                    code="labels-missing",
                )
            number = 1 + max((int(each.name) for each in self._folder.glob("[0-9]*")), default=0)
            name = f"{number:03}"
            for part, document in (("train", train), ("val", held_out)):
                path = self._folder / name / f"{part}.json"
                write_atomically(path, json.dumps(document, ensure_ascii=False) + "\n")
            digest = hashlib.sha256(json.dumps([train, held_out]).encode()).hexdigest()[:12]
            used = self._project.store.setting("model")
            start = _FIRST if used is None else self._trained(used)
            model = Model(name, "training", digest, start, time.time(), *counts)
            self._run(model, resume=False)
            return model

    def resume(self, name: str) -> Model:
        """Continue a training that was stopped. Raises UserError for others."""
        with self._lock:
            self._none_runs()
            found = next((each for each in self.models() if each.name == name), None)
            if found is None or found.state != "stopped":
                raise UserError(
                    f"{name[:100]}: expected a training that was stopped, found none",
                    code="weights-unknown",
                )
            model = replace(found, state="training", reason="")
            checkpoints = self._folder / name / "run" / "checkpoints"
            self._run(model, resume=checkpoints.is_dir() and any(checkpoints.iterdir()))
            return model

    def stop(self) -> None:
        """Stop the training; it can be resumed."""
        with self._lock:
            process, self._stopping = self._process, True
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Stop, and wait for the end."""
        self.stop()
        if self._thread is not None:
            self._thread.join()

    def _trained(self, name: str) -> str:
        """The weights that a training made, for another one to begin with."""
        return str(self._folder / name / "run" / "run.safetensors")

    def _none_runs(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            raise UserError(
                "learn: expected no training in progress, found one; stop it first",
                code="folder-locked",
            )

    def parts(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The labels to learn from, and those that are held out: always the same groups."""
        document = self._project.coco()
        groups = {
            image["id"]: image.get("video") or image["file_name"]
            for image in document["images"]
            if image["labeled"]
        }
        counts = Counter(a["image_id"] for a in document["annotations"] if a["num_keypoints"])
        named = {group for image, group in groups.items() if counts[image]}
        # By a hash, so that a person who was held out once never is in a later training.
        place = {g: int(hashlib.sha256(g.encode()).hexdigest()[:8], 16) / 2**32 for g in named}
        held = {group for group in named if place[group] < HELD_OUT}
        if named and not held:
            held = {min(named, key=lambda group: place[group])}
        if len(held) == len(named) > 1:
            held -= {max(held, key=lambda group: place[group])}

        def part(chosen: Callable[[str], bool]) -> dict[str, Any]:
            images = {image for image, group in groups.items() if counts[image] and chosen(group)}
            return {
                **document,
                "images": [each for each in document["images"] if each["id"] in images],
                "annotations": [
                    each
                    for each in document["annotations"]
                    if each["image_id"] in images and each["num_keypoints"]
                ],
            }

        return part(lambda group: group not in held), part(lambda group: group in held)

    def _run(self, model: Model, resume: bool) -> None:
        self._keep(model)
        self._stopping = False
        self._thread = threading.Thread(target=self._train, args=(model, resume), daemon=True)
        self._thread.start()

    def _train(self, model: Model, resume: bool) -> None:
        """The work of the thread: train, export, measure."""
        folder, root = self._folder / model.name, self._project.root
        try:
            self._call(
                folder, "finetune", folder / "train.json", folder / "val.json", "--weights",
                model.start, "--images", root, "--val-images", root, "--skeleton",
                self._project.folder / "skeleton.yaml", "--out", folder / "run", "-q",
                *self._overrides,
                *["--resume"] * resume,
            )  # fmt: skip
            (folder / "model.onnx").unlink(missing_ok=True)
            best = self._trained(model.name)
            self._call(folder, "export", best, "--out", folder / "model.onnx", "-q")
            self._keep(self._measured(model))
        except _Failed as failed:
            state, reason = ("stopped", "") if self._stopping else ("failed", str(failed))
            self._keep(replace(self._current_state(model), state=state, reason=reason))
        except Exception as error:  # a model that cannot be measured is not used
            _log.exception("learn")
            self._keep(replace(model, state="failed", reason=str(error)))

    def _call(self, folder: Path, *words: object) -> None:
        """Run a command of hrpose; its output is in the model's folder. Raises _Failed."""
        with self._lock:
            if self._stopping:
                raise _Failed("stopped")
            with (folder / "log.txt").open("ab") as log:
                command = [sys.executable, "-m", "hrpose", *map(str, words)]
                self._process = subprocess.Popen(command, stdout=log, stderr=log)
        if self._process.wait():
            lines = (folder / "log.txt").read_text("utf-8", "replace").strip().splitlines()
            raise _Failed(lines[-1][:500] if lines else "without a word")

    # ---- what it is worth --------------------------------------------------------------------

    def _measured(self, model: Model) -> Model:
        """The model, ready, with its score on the persons that were held out."""
        document = read_json(self._folder / model.name / "val.json")
        after = self._similarities(
            self._load(str(self._folder / model.name / "model.onnx")), document
        )
        images = np.array([each["image_id"] for each in document["annotations"]])
        ready = replace(model, state="ready", progress=1.0, score=_score(after, images))
        current = self._current()
        if current is None:
            return ready
        before = self._similarities(current, document)
        change = after - before
        order = np.argsort(change).tolist()

        def examples(rows: list[int]) -> tuple[tuple[int, float], ...]:
            return tuple((int(images[row]), round(float(change[row]), 3)) for row in rows)

        return replace(
            ready,
            before=_score(before, images),
            better=examples([row for row in order[::-1] if change[row] > 0][:_EXAMPLES]),
            worse=examples([row for row in order if change[row] < 0][:_EXAMPLES]),
        )

    def _similarities(
        self, estimator: PoseEstimator, document: dict[str, Any]
    ) -> NDArray[np.float64]:
        """(n,) the OKS of each labeled person, in the box of its label."""
        files = {image["id"]: image["file_name"] for image in document["images"]}
        found = []
        for person in document["annotations"]:
            pixels = self._project.files.read(files[person["image_id"]])
            item = InputImage.of(pixels, [person["bbox"]])
            ((_, poses),) = estimator.stream([item], select=False)
            truth = np.reshape(person["keypoints"], (1, -1, 3))
            terms = keypoint_similarities(
                poses.keypoints, truth, [person["area"]], self._project.skeleton.sigmas
            )
            found.append(float(terms[0][truth[0, :, 2] > 0].mean()))
        return np.array(found)


class _Failed(Exception):
    """A command that ended with an error; its last line."""


def _score(similarities: NDArray[np.float64], images: NDArray[np.int64]) -> Score:
    """The mean, and the interval of a bootstrap that draws images with all of their persons."""
    rng = np.random.default_rng(0)
    _, index = np.unique(images, return_inverse=True)
    sums = np.bincount(index, similarities)
    counts = np.bincount(index)
    drawn = rng.integers(0, len(sums), (_DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Score(*(round(float(value), 4) for value in (similarities.mean(), low, high)))
