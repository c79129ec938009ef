"""The files in examples/launch: they are whole, and what they start is understood."""

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

from conftest import ROOT

LAUNCH = ROOT / "examples" / "launch"
SBATCH = LAUNCH / "slurm.sbatch"

# Stand-ins for SLURM's programs. Each says what it was asked; `srun` waits as long as it is told.
PROGRAMS = {
    # The second line is late: who has read the first must not leave `scontrol` with a broken pipe.
    "scontrol": """echo "scontrol $*" >> said
        if [ "$1" = show ]; then echo first; sleep 0.1; echo second; fi""",
    "scancel": 'echo "scancel $*" >> said; touch leave',
    "srun": 'echo "srun $*" >> said; eval "$SRUN"',
}


def assert_trains(arguments: list[str]) -> None:
    """What torchrun is given starts `hrpose train --resume` with a recipe that is there."""
    parsed = get_args_parser().parse_args(arguments)
    assert parsed.module
    assert parsed.training_script == "hrpose"
    command, recipe, *rest = parsed.training_script_args
    assert command == "train"
    assert (ROOT / recipe).is_file()
    assert rest[-1] == "--resume"
    options = [word.partition("=")[0] for word in rest if word.startswith("--")]
    assert options == ["--data", "--out", "--resume"]


def sbatch(folder: Path, srun: str) -> subprocess.Popen[str]:
    for name, program in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/bash\n{program}\n")
        (folder / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SRUN": srun,
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "some[1-2]",
        "SLURM_NNODES": "2",
    }
    return subprocess.Popen(["bash", SBATCH], cwd=folder, env=environment, text=True)


@pytest.mark.parametrize("code", [0, 3])
def test_slurm_starts_one_torchrun_on_each_machine(tmp_path: Path, code: int) -> None:
    assert sbatch(tmp_path, f"exit {code}").wait(60) == code
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0] == "scontrol show hostnames some[1-2]"
    before, _, torchrun = said[1].partition(" torchrun ")
    assert before == "srun --kill-on-bad-exit=1"
    assert_trains(shlex.split(torchrun))
    parsed = get_args_parser().parse_args(shlex.split(torchrun))
    assert (parsed.nnodes, parsed.nproc_per_node) == ("2", "4")
    assert (parsed.rdzv_backend, parsed.rdzv_endpoint) == ("c10d", "first:29500")
    # A failure is not tried again: it would fail again.
    assert len(said) == 2


def test_slurm_saves_before_the_time_is_up_and_goes_on_later(tmp_path: Path) -> None:
    # A torchrun that was told to leave ends with 1.
    running = sbatch(tmp_path, "touch started; until [ -e leave ]; do sleep 0.05; done; exit 1")
    while not (tmp_path / "started").exists():
        assert running.poll() is None
    running.send_signal(signal.SIGUSR1)
    assert running.wait(60) == 1
    said = (tmp_path / "said").read_text().splitlines()
    assert said[2:] == ["scancel --signal=TERM 7", "scontrol requeue 7"]


def test_kubernetes_starts_the_same_in_all_pods() -> None:
    (job,) = yaml.safe_load_all((LAUNCH / "pytorchjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert replicas.keys() == {"Master", "Worker"}
    assert replicas["Master"]["replicas"] == 1
    for replica in replicas.values():
        pod = replica["template"]["spec"]
        (container,) = pod["containers"]
        assert container["name"] == "pytorch"
        assert container["command"] == ["torchrun"]
        assert_trains(container["args"])
        gpus = container["resources"]["limits"]["nvidia.com/gpu"]
        assert int(job["spec"]["nprocPerNode"]) == gpus  # one for each process
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
