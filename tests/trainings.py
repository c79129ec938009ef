"""Trainings as users start them, without importing PyTorch for each.

A server process imports it once. Each training is a fork of it; several processes are forked by the
agent of torchrun, with its environment.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes" / "synthetic.yaml"
# Few steps and small images.
SMALL = ("network=tiny", "input_wh=[32, 32]", "training.batch_size=4", "schedule.warmup_steps=3")


@dataclass(frozen=True)
class Ended:
    """The exit codes by rank, and the output. Of a training by torchrun only the codes of the first
    processes that fail are known; without any, all are 0.
    """

    codes: dict[int, int]
    output: str

    @property
    def code(self) -> int:
        return self.codes[min(self.codes)]


@dataclass(frozen=True)
class Start:
    """`hrpose train` with these overrides; `faults` are names in `faults` and what they take.

    0 processes: without torchrun.
    """

    data: str
    out: str
    overrides: tuple[str, ...] = SMALL
    processes: int = 0
    resume: bool = False
    resume_with_changes: bool = False
    double: bool = False
    """In 64-bit floats, whose rounding errors stay small over many steps."""
    faults: tuple[tuple[Any, ...], ...] = ()


class Trainings:
    """The client of the server, for tests."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "COLUMNS": "200",
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
            ),
        }
        self._server = subprocess.Popen(
            [sys.executable, "-m", "trainings"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, data: Path, out: Path, *overrides: str, **options: Any) -> Ended:
        """Run a training."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        start = Start(str(data), str(out), (*SMALL, *overrides), **options)
        print(json.dumps(asdict(start)), file=self._server.stdin, flush=True)
        answer = self._server.stdout.readline()
        assert answer, "the server of trainings has died"
        codes = {int(rank): code for rank, code in json.loads(answer).items()}
        return Ended(codes, _output(start).read_text())

    def close(self) -> None:
        self._server.communicate()  # It ends where its input does.


def _output(start: Start) -> Path:
    return Path(f"{start.out}.output.txt")


def _hrpose(start: Start) -> None:
    """In the process that trains: `hrpose train ...`, with faults."""
    import tiny_network
    from hrpose.cli.main import main

    tiny_network.register()
    faults = importlib.import_module("faults")
    sets = [part for override in start.overrides for part in ("--set", override)]
    resume = ["--resume"] if start.resume else []
    resume += ["--resume-with-changes"] if start.resume_with_changes else []
    sys.argv = ["hrpose", "train", str(RECIPE), "--data", start.data, "--out", start.out]
    sys.argv += [*sets, *resume]
    with contextlib.ExitStack() as stack:
        if start.double:
            fit = "hrpose.training.trainer.lightning_precision"
            stack.enter_context(patch(fit, lambda _: "64-true"))
        for name, *arguments in start.faults:
            stack.enter_context(getattr(faults, name)(*arguments))
        main()


def _codes(start: Start) -> dict[int, int]:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=start.processes, start_method="fork",
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id=Path(start.out).name,
        max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    try:
        elastic_launch(config, _hrpose)(start)
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    return dict.fromkeys(range(start.processes), 0)


def _forked(start: Start) -> dict[int, int]:
    """The exit codes of a training in a fork, whose output goes to a file."""
    answer, ask = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            output = os.open(_output(start), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            if start.processes:
                os.write(ask, json.dumps(_codes(start)).encode())
            else:
                _hrpose(start)
            code = 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    os.close(ask)
    with os.fdopen(answer) as answers:
        codes = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(codes) if codes else {0: status}


def _serve() -> None:
    import hrpose.training.train  # noqa: F401
    import tiny_network  # noqa: F401

    out = os.dup(1)
    for line in sys.stdin:
        given = json.loads(line)
        start = Start(**{**given, "faults": tuple(map(tuple, given["faults"]))})
        os.write(out, (json.dumps(_forked(start)) + "\n").encode())


if __name__ == "__main__":
    _serve()
