"""The mean of several walks' weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tools.average import average

from hrpose.codec import Codec
from hrpose.errors import UserError
from hrpose.network import HRNet, checkpoint
from hrpose.passport import Passport

PASSPORT = Passport("w16-small", (64, 96), name="test")


def walk(path: Path, seed: int, passport: Passport = PASSPORT) -> HRNet:
    torch.manual_seed(seed)
    network = HRNet.from_name("w16-small")
    checkpoint.save(path, network, passport)
    return network


def test_every_number_is_the_mean(tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    first = walk(files[0], 1, replace(PASSPORT, scores={"AP": 0.3}))
    second = walk(files[1], 2)
    average(files, tmp_path / "mean.safetensors")
    network, passport = checkpoint.load(tmp_path / "mean.safetensors")
    assert passport == PASSPORT
    pairs = zip(first.parameters(), second.parameters(), network.parameters(), strict=True)
    for one, other, mean in pairs:
        torch.testing.assert_close(mean, (one + other) / 2)


def test_another_codec_is_refused(tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    walk(files[0], 1)
    walk(files[1], 1, replace(PASSPORT, codec=Codec("udp")))
    with pytest.raises(UserError, match=r"b\.safetensors: expected the passport of"):
        average(files, tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()
