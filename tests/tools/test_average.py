"""The mean of several walks' weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tools.average import average, average_detectors

from hrpose.codec import Codec
from hrpose.errors import UserError
from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.training.person_detector.train import build_network
from hrpose.training.recipe import DetectorRecipe
from tiny_boxes import RECIPE, write_tiny_boxes

METADATA = Metadata("w16-small", (64, 96), name="test")


def walk(path: Path, seed: int, metadata: Metadata = METADATA) -> HRNet:
    torch.manual_seed(seed)
    network = HRNet.from_name("w16-small")
    checkpoint.save(path, network, metadata)
    return network


def test_every_number_is_the_mean(tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    first = walk(files[0], 1, replace(METADATA, scores={"AP": 0.3}))
    second = walk(files[1], 2)
    average(files, tmp_path / "mean.safetensors")
    network, metadata = checkpoint.load(tmp_path / "mean.safetensors")
    assert metadata == METADATA
    pairs = zip(first.parameters(), second.parameters(), network.parameters(), strict=True)
    for one, other, mean in pairs:
        torch.testing.assert_close(mean, (one + other) / 2)


def test_another_codec_is_refused(tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    walk(files[0], 1)
    walk(files[1], 1, replace(METADATA, codec=Codec("udp")))
    with pytest.raises(UserError, match=r"b\.safetensors: expected the metadata of"):
        average(files, tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()


def test_detectors_are_judged_anew(tmp_path: Path) -> None:
    write_tiny_boxes(tmp_path)
    recipe = DetectorRecipe.model_validate(RECIPE)
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    networks = []
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        networks.append(build_network("w16-small"))
        checkpoint.save(file, networks[-1], DetectorMetadata("w16-small", 96, name=file.stem))
    average_detectors(
        [files[0], files[1], files[1]], recipe, tmp_path, tmp_path / "mean.safetensors"
    )
    mean, metadata = checkpoint.load_detector(tmp_path / "mean.safetensors")
    triples = zip(*(network.parameters() for network in (*networks, mean)), strict=True)
    for one, other, found in triples:
        torch.testing.assert_close(found, (one + 2 * other) / 3)
    assert (metadata.name, metadata.license) == ("tiny", "Apache-2.0")
    assert "held-out AP" in metadata.scores
