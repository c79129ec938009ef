"""The mean of the weights of several walks that began at the same place: one step of `make model`.

    python -m tools.average FIRST SECOND ... OUT

The files are safetensors as `hrpose train` writes them; OUT gets the first one's passport.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from hrpose.errors import UserError
from hrpose.network import checkpoint


def average(files: list[Path], out: Path) -> None:
    """Write the mean of all weights and of the statistics of BatchNorm.

    Raises UserError where the files are of other networks or are read in other ways.
    """
    loaded = [checkpoint.load(file) for file in files]
    network, passport = loaded[0]
    states = [each.state_dict() for each, _ in loaded]
    for file, state, (_, other) in zip(files, states, loaded, strict=True):
        checkpoint.check_state(states[0], state, f"{file}: is not of the same network")
        if replace(other, scores=passport.scores) != passport:
            raise UserError(f"{file}: expected the passport of {files[0]}, found another")
    mean = {
        key: torch.stack([state[key] for state in states]).mean(dim=0)
        if first.is_floating_point()
        else first
        for key, first in states[0].items()
    }
    network.load_state_dict(mean)
    checkpoint.save(out, network, replace(passport, scores={}))


if __name__ == "__main__":
    *names, target = map(Path, sys.argv[1:])
    average(names, target)
