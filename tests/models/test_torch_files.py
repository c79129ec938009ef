"""Files of PyTorch are read, or refused, without running what is in them."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from hrpose.metadata import Metadata
from hrpose.models import checkpoint
from hrpose.models.checkpoint import read_torch
from refusals import refused


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
