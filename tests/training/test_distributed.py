"""Several processes train as one does: the same data, the same metrics, one log and one writer."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from hrpose.data.dataset import Draw, EvaluationSampler, TrainingSampler
from hrpose.models.checkpoint import read_torch
from hrpose.synthetic import write_dataset
from hrpose.training.distributed import SINGLE, Processes, launched
from hrpose.training.recipe import Optimizer
from refusals import refused
from trainings import RECIPE, Trainings

COMMON = ("training.epochs=2", "training.ema_decay=0.9", "optimizer.base_batch_size=8")
FIFTY, EIGHT = ((*COMMON, f"training.samples_per_epoch={4 * n // 2}") for n in (50, 8))
PERSONS = 7  # divides by neither 2 nor 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed, part in enumerate(("train", "val")):
        write_dataset(folder / part, 8, seed)
    file = folder / "val" / "annotations.json"
    content = json.loads(file.read_text())
    content["annotations"] = content["annotations"][:PERSONS]
    assert len(content["annotations"]) == PERSONS
    file.write_text(json.dumps(content))
    return folder


def farthest(one: Path, other: Path, steps: int) -> float:
    """The largest difference of a weight, a running statistic or an average of them."""
    mine, theirs = (read_torch(out / "checkpoints" / "last.ckpt") for out in (one, other))
    assert mine["global_step"] == theirs["global_step"] == steps
    return max(
        float((mine[part][key].double() - theirs[part][key].double()).abs().max())
        for part in ("state_dict", "current_model_state")
        for key in mine[part]
    )


def validations(out: Path) -> list[dict[str, str]]:
    """The rows of the one log with metrics of the validation, without losses."""
    (log,) = out.glob("csv/version_*/metrics.csv")
    with log.open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/EPE"]]
    return [{k: v for k, v in row.items() if k[:4] == "val/" and k != "val/loss"} for row in rows]


@pytest.mark.slow
def test_two_processes_train_as_one(data: Path, trainings: Trainings, tmp_path: Path) -> None:
    out, alone = tmp_path / "two", tmp_path / "alone"
    assert trainings.run(data, alone, *FIFTY, double=True).code == 0
    ended = trainings.run(
        data, out, *FIFTY, processes=2, double=True,
        faults=(("written_by_the_first_alone", str(out)),),
    )  # fmt: skip
    assert ended.code == 0, ended.output
    assert farthest(out, alone, steps=50) < 1e-5
    # One process reports, logs and writes.
    for words in (
        "hrpose: note: training in 2 processes, each with 2 of the 4 persons of a step",
        "hrpose: note: the learning rate is 0.001: optimizer.lr 0.002 is for a batch of 8, scaled "
        "to 4 by the linear rule",
        "wrote ",
    ):
        assert ended.output.count(words) == 1
    assert "Warning" not in ended.output
    assert len(validations(out)) == 2
    assert len(list(out.glob("tensorboard/events*"))) == 1
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last-1.ckpt",
        "last.ckpt",
    ]


@pytest.mark.slow
def test_one_process_is_stopped_and_four_resume(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out, alone = tmp_path / "two-then-four", tmp_path / "alone"
    assert trainings.run(data, alone, *EIGHT, double=True).code == 0
    ended = trainings.run(
        data, out, *EIGHT, processes=2, double=True, faults=(("signal_at", 1, "SIGTERM", 1),)
    )
    # torchrun ends all processes as soon as one has exited.
    assert 143 in ended.codes.values(), ended.output
    assert set(ended.codes.values()) <= {143, -signal.SIGTERM}
    assert ended.output.count("stopped by SIGTERM and saved after step 2; --resume continues") == 1
    assert read_torch(out / "checkpoints" / "last.ckpt")["global_step"] == 2
    ended = trainings.run(data, out, *EIGHT, processes=4, double=True, resume=True)
    assert ended.code == 0, ended.output
    assert farthest(out, alone, steps=8) < 1e-5


@pytest.mark.slow
def test_without_sync_batchnorm_each_process_has_its_own_statistics(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    few = ("training.samples_per_epoch=8", "training.epochs=1", "training.ema_decay=0.9")
    outs = [tmp_path / f"{sync}" for sync in ("true", "false")]
    for out in outs:
        ended = trainings.run(
            data, out, *few, f"training.sync_batchnorm={out.name}", processes=2, double=True
        )
        assert ended.code == 0, ended.output
    assert farthest(*outs, steps=2) > 1e-4


@pytest.mark.slow
def test_any_number_of_processes_measures_the_same(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    # A step that changes nothing, from trained weights.
    unchanged = (
        "network=w16-small", "weights=w16-small", "input_wh=[128, 192]", "training.epochs=1",
        "training.batch_size=6", "training.samples_per_epoch=6", "training.frozen_norms=true",
        "optimizer.lr=1e-30", "schedule.warmup_steps=0", "evaluation.batch_size=2",
    )  # fmt: skip
    measured = {}
    for processes in (1, 2, 3):
        out = tmp_path / str(processes)
        ended = trainings.run(data, out, *unchanged, processes=processes)
        assert ended.code == 0, ended.output
        (measured[processes],) = validations(out)
    assert 0 < float(measured[1]["val/AP"]) < 1
    for other in (measured[2], measured[3]):
        assert other.keys() == measured[1].keys()
        for name, value in measured[1].items():
            if name in ("val/EPE", "val/NME"):
                # Lengths, and the last bit of a heatmap depends on the batch it is in.
                assert float(other[name]) == pytest.approx(float(value), rel=1e-5)
            else:
                assert other[name] == value, name


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_all(
    data: Path, trainings: Trainings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = trainings.run(
        data, out, *EIGHT, "optimizer.lr=1e30", "schedule.warmup_steps=0", processes=2
    )
    assert 2 in ended.codes.values(), ended.output
    assert "[loss-not-finite]" in ended.output
    assert "Traceback" not in ended.output.partition("torch/distributed/elastic")[0]
    assert list(out.glob("not-finite*.npz"))


@pytest.mark.slow
def test_torchrun_is_stopped(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    last = out / "checkpoints" / "last.ckpt"
    arguments = [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2),
        *("-m", "hrpose", "train", RECIPE, "--data", data, "--out", out),
        *("--set", "input_wh=[32, 32]", "--set", "training.batch_size=2"),
        *("--set", "training.epochs=10000", "--set", "training.samples_per_epoch=10000"),
        *("--set", "training.checkpoint_every_steps=1"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as running:  # fmt: skip
        try:
            patience = time.monotonic() + 300
            while not last.exists() and running.poll() is None and time.monotonic() < patience:
                time.sleep(0.05)
        finally:
            running.send_signal(signal.SIGTERM)
        output, _ = running.communicate(timeout=120)
    assert running.returncode != 0
    assert output.count("stopped by SIGTERM and saved after step") == 1, output
    assert read_torch(last)["global_step"] > 0
    assert not (out / "checkpoints" / "next.ckpt").exists()


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("samples", [24, 29])
@pytest.mark.parametrize("done", [0, 1])
def test_processes_share_the_batches_of_one(processes: int, samples: int, done: int) -> None:
    weights, batch = np.arange(1.0, 20.0), 12

    def batches(rank: int, count: int) -> list[list[Draw]]:
        sampler = TrainingSampler(weights, 5, samples, rank, count)
        each = batch // count
        sampler.resume(2, done * each)
        draws = list(sampler)
        assert len(draws) == len(sampler) - done * each
        return [draws[i : i + each] for i in range(0, len(draws) - each + 1, each)]

    shares = [batches(rank, processes) for rank in range(processes)]
    together = [sorted(chain(*parts)) for parts in zip(*shares, strict=True)]
    assert together == [sorted(one) for one in batches(0, 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_every_person_is_evaluated_once(count: int) -> None:
    samplers = [EvaluationSampler(PERSONS, rank, count) for rank in range(count)]
    persons = [draw.person for sampler in samplers for draw in sampler]
    assert sorted(persons) == list(range(PERSONS))
    assert sum(map(len, samplers)) == PERSONS


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}


def test_the_processes_are_those_of_torchrun() -> None:
    assert launched({}) == SINGLE
    assert launched({"WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "1"}) == SINGLE
    assert launched(TORCHRUN) == Processes(5, 8, 4)
    assert not launched(TORCHRUN).first
    assert Processes(0, 8, 4).describe(32) == (
        "training in 8 processes on 2 machines, each with 4 of the 32 persons of a step"
    )


@pytest.mark.parametrize(
    ("environment", "mention"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE"),
        ({**TORCHRUN, "LOCAL_WORLD_SIZE": "3"}, "3 of 8"),
    ],
)
def test_other_launchers_are_refused(environment: dict[str, str], mention: str) -> None:
    with refused("launch-invalid", mention):
        launched(environment)


def test_a_batch_is_shared_evenly_or_not_at_all() -> None:
    assert Processes(1, 4, 2).share(32) == 8
    with refused("recipe-invalid", "training.batch_size", "30"):
        Processes(1, 4, 2).share(30)


@pytest.mark.parametrize(
    ("base", "scaling", "batch", "rate"),
    [
        (None, "linear", 512, 1e-3),
        (128, "linear", 128, 1e-3),
        (128, "linear", 512, 4e-3),
        (128, "sqrt", 512, 2e-3),
        (128, "linear", 32, 2.5e-4),
    ],
)
def test_the_rate_follows_the_batch(
    base: int | None, scaling: str, batch: int, rate: float
) -> None:
    optimizer = Optimizer.model_validate({"lr": 1e-3, "base_batch_size": base, "scaling": scaling})
    assert optimizer.rate(batch) == pytest.approx(rate)
