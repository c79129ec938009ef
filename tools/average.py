"""Average the weights of several trainings from the same start, for `make model` and
`make person-detector`.

    python -m tools.average FIRST SECOND ... OUT
    python -m tools.average --detector RECIPE --data DATA FIRST SECOND ... OUT

The files are safetensors from `hrpose train` or `hrpose train-detector`; one that is named twice
counts twice. OUT gets the metadata of the first file. The metadata of a person detector are those
of the recipe, with calibration, threshold and metrics measured on its validation images.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hrpose.errors import UserError
from hrpose.models import checkpoint
from hrpose.training.person_detector.dataset import DetectorDataModule
from hrpose.training.person_detector.train import fit_metadata
from hrpose.training.recipe import DetectorRecipe
from hrpose.yaml_file import load_as


def average(files: list[Path], out: Path) -> None:
    """Write the mean of all weights and BatchNorm statistics.

    Raises UserError if the networks or the metadata differ.
    """
    loaded = [checkpoint.load(file) for file in files]
    network, metadata = loaded[0]
    states = [each.state_dict() for each, _ in loaded]
    for file, state, (_, other) in zip(files, states, loaded, strict=True):
        checkpoint.check_state(states[0], state, f"{file}: expected the same network")
        if replace(other, scores=metadata.scores) != metadata:
            raise UserError(
                f"{file}: expected the metadata of {files[0]}, found others",
                code="weights-unsuitable",
            )
    network.load_state_dict(_mean(states))
    checkpoint.save(out, network, replace(metadata, scores={}))


def average_detectors(files: list[Path], recipe: DetectorRecipe, data: Path, out: Path) -> None:
    """The same for person detectors. Raises UserError if their networks differ."""
    loaded = [checkpoint.load_detector(file) for file in files]
    network, metadata = loaded[0]
    states = [each.state_dict() for each, _ in loaded]
    for file, state in zip(files, states, strict=True):
        checkpoint.check_state(states[0], state, f"{file}: expected the same network")
    network.load_state_dict(_mean(states))
    metadata = replace(
        metadata,
        name=recipe.name,
        training_data=recipe.data.description,
        license=recipe.data.license,
    )
    metadata = fit_metadata(network, recipe, DetectorDataModule(recipe, data), metadata)
    checkpoint.save(out, network, metadata)


def _mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {
        key: torch.stack([state[key] for state in states]).mean(dim=0)
        if first.is_floating_point()
        else first
        for key, first in states[0].items()
    }


def main() -> None:
    """Read the command line and write the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--detector", type=Path, metavar="RECIPE")
    parser.add_argument("--data", type=Path, default=Path())
    given = parser.parse_args()
    *files, out = given.files
    if given.detector is None:
        average(files, out)
    else:
        average_detectors(files, load_as(given.detector, [], DetectorRecipe), given.data, out)


if __name__ == "__main__":
    main()
