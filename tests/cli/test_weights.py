"""`hrpose weights convert` and `hrpose train --check` from their arguments to their output."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from hrpose.cli.main import main
from hrpose.models import HRNet, checkpoint
from hrpose.session import open_session
from hrpose.skeletons import COCO_17
from hrpose.synthetic import write_dataset


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["hrpose", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        stdout, stderr = capsys.readouterr()
        return Ran(int(stopped.value.code or 0), stdout, stderr)

    return run


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A file as mmpose publishes them."""
    state = HRNet.from_name("w16-small").state_dict()
    renamed = {
        f"{'head' if key.startswith('final_layer') else 'backbone'}.{key}": value
        for key, value in state.items()
    }
    path = tmp_path / "td-hm_hrnet_udp-8xb64-210e_coco-256x192-aa_20220914.pth"
    renamed["data_preprocessor.mean"] = torch.ones(3, 1, 1)
    torch.save({"meta": {}, "state_dict": renamed}, path)
    return path


def test_a_released_file_is_converted_there_and_back(
    tmp_path: Path, run: Run, released: Path
) -> None:
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    facts = ("--training-data", "COCO", "--license", "Apache-2.0")
    ran = run("weights", "convert", released, "--out", ours, *facts)
    assert (ran.code, ran.stderr) == (0, "")
    entries = len(HRNet.from_name("w16-small").state_dict())
    assert ran.stdout.splitlines() == [
        f"{released}: mmpose 1.x, network w16-small, 17 keypoints",
        f"  matched {entries} entries",
        "  dropped 1: mmpose's preprocessing, which the metadata has here",
        "  keypoints: coco-17 (because there are 17)",
        "  input size: 192x256, width x height (from the file's name)",
        "  codec: udp (from the file's name), sigma 2 (the paper's for this size)",
        f"wrote {ours}",
    ]
    network, metadata = checkpoint.load(ours)
    assert (metadata.input_wh, metadata.codec.name) == ((192, 256), "udp")
    assert metadata.skeleton is COCO_17
    assert (metadata.training_data, metadata.license) == ("COCO", "Apache-2.0")
    assert run("weights", "convert", released, "--out", tmp_path / "ours.onnx", *facts).code == 0
    assert open_session(tmp_path / "ours.onnx").metadata == replace(metadata, name=released.stem)
    assert run("weights", "convert", ours, "--out", back).code == 0
    official = torch.load(back, weights_only=True)
    assert all(torch.equal(official[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        (["out.pb"], "[option-invalid]"),
        (["out.safetensors", "--input-size", "190x256"], "[option-invalid]"),
        (["out.safetensors", "--skeleton", "mpii"], "17 keypoints"),
        (["out.safetensors", "--skeleton", "lsp-14"], "17 keypoints"),
        (["out.safetensors", "--skeleton", "none.json"], "none.json"),
        (["out.pth", "--sigma", "2"], "[option-conflict]"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    released: Path,
    arguments: list[str],
    mention: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("weights", "convert", released.name, "--out", *arguments)
    assert ran.code == 2
    assert mention in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not (tmp_path / arguments[0]).exists()


def test_the_checkpoint_is_not_replaced(run: Run, released: Path) -> None:
    content = released.read_bytes()
    ran = run("weights", "convert", released, "--out", released)
    assert (ran.code, "[overwrite-refused]" in ran.stderr) == (2, True)
    assert released.read_bytes() == content


@pytest.mark.parametrize("name", ["coco", "coco-17", "keypoints.yaml"])
def test_a_skeleton_by_name_or_file(tmp_path: Path, run: Run, released: Path, name: str) -> None:
    (tmp_path / "keypoints.yaml").write_text(f"keypoints: [{', '.join(COCO_17.keypoints)}]")
    out = tmp_path / "out.safetensors"
    given = tmp_path / name if name.endswith("yaml") else name
    ran = run("weights", "convert", released, "--out", out, "--skeleton", given)
    assert (ran.code, ran.stderr) == (0, "")
    assert checkpoint.load(out)[1].skeleton.keypoints == COCO_17.keypoints


def test_a_recipe_is_checked_without_training(tmp_path: Path, run: Run) -> None:
    for seed, part in enumerate(("train", "val")):
        write_dataset(tmp_path / part, 2, seed)
    recipe = ROOT / "recipes" / "synthetic.yaml"
    arguments = ["train", recipe, "--data", tmp_path, "--out", tmp_path / "out", "--check"]
    ran = run(*arguments, "--set", "optimizer.name=adam", "--set", "optimizer.weight_decay=0.1")
    assert ran.code == 0
    assert ran.stdout.startswith("synthetic: ready to train on ")
    first, *others = ran.stderr.splitlines()
    assert first.startswith("hrpose: warning: optimizer.weight_decay is 0.1 with plain Adam")
    assert all(other.startswith("hrpose: note: ") for other in others)
    assert run(*arguments, "--set", "weights=gone.pth").code == 2
    assert not (tmp_path / "out").exists()
