"""The mean of the weights of several trainings."""

from dataclasses import replace
from pathlib import Path

import torch
from tools.average import average, average_detectors

from hrpose.codec import Codec
from hrpose.metadata import DetectorMetadata, Metadata
from hrpose.models import HRNet, checkpoint
from hrpose.training.person_detector.train import build_network
from hrpose.training.recipe import DetectorRecipe
from refusals import refused
from tiny_boxes import RECIPE, write_tiny_boxes

METADATA = Metadata("w16-small", (64, 96), name="test")


def trained(path: Path, seed: int, metadata: Metadata = METADATA) -> HRNet:
    torch.manual_seed(seed)
    network = HRNet.from_name("w16-small")
    checkpoint.save(path, network, metadata)
    return network


def test_every_number_is_the_mean(tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    first = trained(files[0], 1, replace(METADATA, scores={"AP": 0.3}))
    second = trained(files[1], 2)
    average(files, tmp_path / "mean.safetensors")
    network, metadata = checkpoint.load(tmp_path / "mean.safetensors")
    assert metadata == METADATA
    pairs = zip(first.parameters(), second.parameters(), network.parameters(), strict=True)
    for one, other, mean in pairs:
        torch.testing.assert_close(mean, (one + other) / 2)


def test_another_codec_is_refused(tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    trained(files[0], 1)
    trained(files[1], 1, replace(METADATA, codec=Codec("udp")))
    with refused("weights-unsuitable", "b.safetensors"):
        average(files, tmp_path / "mean.safetensors")
    assert not (tmp_path / "mean.safetensors").exists()


def test_detectors_are_measured_again(tmp_path: Path) -> None:
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
