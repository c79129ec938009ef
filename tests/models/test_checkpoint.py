"""Checkpoints: they come back with their metadata, or are refused, and no code of them is run."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hrpose.codec import Codec
from hrpose.metadata import Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.models.checkpoint import read_torch
from refusals import refused

METADATA = Metadata(
    "w16-small", (96, 128), codec=Codec(sigma=1.5), name="test", scores={"val AP": 0.5}
)


@pytest.fixture(scope="module")
def network() -> HRNet:
    torch.manual_seed(0)
    return HRNet.from_name("w16-small")


def same(one: HRNet, other: HRNet) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def test_weights_come_back_with_their_metadata(network: HRNet, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "w.safetensors", network, METADATA)
    loaded, metadata = checkpoint.load(tmp_path / "w.safetensors")
    assert metadata == METADATA
    assert same(loaded, network)
    assert not loaded.training


def test_a_training_checkpoint_comes_back_the_same(network: HRNet, tmp_path: Path) -> None:
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    content = {
        "state_dict": {**state, "other": torch.ones(1)},
        Metadata.keys[0]: METADATA.to_json(),
    }
    torch.save(content, tmp_path / "last.ckpt")
    loaded, metadata = checkpoint.load(tmp_path / "last.ckpt")
    assert metadata == METADATA
    assert same(loaded, network)


@pytest.mark.parametrize("name", ["w.safetensors", "w.ckpt"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04nonsense", b"\xff" * 64])
def test_a_broken_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with refused("weights-damaged", name):
        checkpoint.load(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.ckpt"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with refused("file-unreadable", name):
        checkpoint.load(tmp_path / name)


def test_weights_cut_short_are_refused(network: HRNet, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    checkpoint.save(path, network, METADATA)
    path.write_bytes(path.read_bytes()[:-100])
    with refused("weights-damaged", "w.safetensors"):
        checkpoint.load(path)


def test_weights_without_a_metadata_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    torch.save({"a": torch.ones(1)}, tmp_path / "w.ckpt")
    with refused("metadata-missing", "w.safetensors"):
        checkpoint.load(tmp_path / "w.safetensors")
    with refused("weights-unsuitable", "w.ckpt"):
        checkpoint.load(tmp_path / "w.ckpt")


@pytest.mark.parametrize("content", [{1: 2, "a": 3}, [1], torch.ones(2)])
def test_other_contents_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.ckpt")
    with refused("weights-unsuitable", "w.ckpt"):
        checkpoint.load(tmp_path / "w.ckpt")


def test_a_checkpoint_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save({Metadata.keys[0]: METADATA.to_json()}, tmp_path / "w.ckpt")
    with refused("weights-unsuitable", "w.ckpt"):
        checkpoint.load(tmp_path / "w.ckpt")


@pytest.mark.parametrize("name", ["w32", "w64"])
def test_a_metadata_of_another_network_does_not_fit(
    network: HRNet, tmp_path: Path, name: str
) -> None:
    checkpoint.save(tmp_path / "w.safetensors", network, Metadata(name, (96, 128)))
    with refused("weights-unsuitable", "w.safetensors", name):
        checkpoint.load(tmp_path / "w.safetensors")


def test_what_does_not_fit_is_named(network: HRNet) -> None:
    state = dict(network.state_dict())
    first, *_, last = state
    state["extra"] = state.pop(first)
    state[last] = torch.ones(3)
    with refused("weights-unsuitable", "here", "w16-small", first, "extra", last, "(17,)", "(3,)"):
        checkpoint.load_state(network, state, "here")


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("plain", [False, True], ids=["torch.save", "pickle"])
def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path, plain: bool) -> None:
    trap, path = tmp_path / "sprung", tmp_path / "bad.ckpt"
    content = {"state_dict": {}, Metadata.keys[0]: Trap(trap)}
    if plain:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with refused("weights-unsafe", "bad.ckpt"):
        checkpoint.load(path)
    assert not trap.exists()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    stored = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(1_000_000)}}, stored)
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(stored) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in whole.infolist():
            bomb.writestr(member.filename, whole.read(member))
    assert path.stat().st_size < 10_000
    with refused("weights-unsafe", "bomb.ckpt", "compressed"):
        read_torch(path)


def test_a_zip_bomb_that_python_cannot_list_is_refused_too(tmp_path: Path) -> None:
    """PyTorch does not look at the version that a member asks for."""
    stored = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(1_000_000)}}, stored)
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(stored) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in whole.infolist():
            bomb.writestr(member.filename, whole.read(member))
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + 6] = 99
    path.write_bytes(content)
    with refused("weights-damaged", "bomb.ckpt"):
        read_torch(path)


def test_a_file_that_goes_away_while_it_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, **_: object) -> None:
        path.unlink()
        raise pickle.UnpicklingError("odd")

    path = tmp_path / "w.ckpt"
    path.write_bytes(b"\x80")
    monkeypatch.setattr(torch, "load", load)
    with refused("weights-damaged", "w.ckpt"):
        read_torch(path)
