"""The passport of weights that carry none: what the user says, the file's name, what is usual."""

import re
from dataclasses import dataclass
from pathlib import Path

from hrpose.codec import Codec
from hrpose.errors import UserError
from hrpose.heatmap import sigma_for
from hrpose.metadata import Metadata
from hrpose.network.convert import USUAL_INPUT, Weights
from hrpose.skeleton import Skeleton


@dataclass(frozen=True, slots=True)
class Known:
    """What a user knows of weights that carry no passport; None is to be concluded."""

    input_wh: tuple[int, int] | None = None
    skeleton: Skeleton | None = None
    codec: str | None = None
    sigma: float | None = None
    training_data: str = "unknown"
    licence: str = "unknown"


def passport_for(weights: Weights, path: Path, known: Known) -> tuple[Metadata, list[str]]:
    """The passport of weights with a head, and in words where each part of it is from.

    Released files say their input size (height x width) and codec in their names. Raises
    UserError where something can only be guessed.
    """
    if weights.num_keypoints is None:
        raise UserError(f"{path}: is a backbone without a head and can have no passport")
    if weights.passport is not None:
        if known != Known():
            raise UserError(f"{path}: has its own passport; leave out the options that say another")
        return weights.passport, ["passport: its own"]
    skeleton, why_skeleton = _skeleton(weights.num_keypoints, path, known.skeleton)
    input_wh, why_size = _input_wh(path, skeleton, known.input_wh)
    named = next((name for name in ("udp", "dark") if name in path.stem.lower()), None)
    name = known.codec or named or "gaussian"
    why_codec = "as given" if known.codec else "from the file's name" if named else "assumed"
    sigma = sigma_for(input_wh) if known.sigma is None else known.sigma
    why_sigma = "the paper's for this size" if known.sigma is None else "as given"
    passport = Metadata(
        name=path.stem,
        network=weights.network,
        input_wh=input_wh,
        skeleton=skeleton,
        codec=Codec(name, sigma),
        training_data=known.training_data,
        license=known.licence,
    )
    return passport, [
        f"keypoints: {skeleton.name} ({why_skeleton})",
        f"input size: {input_wh[0]}x{input_wh[1]}, width x height ({why_size})",
        f"codec: {name} ({why_codec}), sigma {sigma:g} ({why_sigma})",
    ]


def _skeleton(k: int, path: Path, given: Skeleton | None) -> tuple[Skeleton, str]:
    if given is None:
        known = next((s for s in USUAL_INPUT if len(s) == k), None)
        if known is None:
            raise UserError(
                f"{path}: has {k} keypoints and no names for them; say what they are with "
                "--skeleton coco, mpii or a COCO keypoints JSON"
            )
        return known, f"because there are {k}"
    if len(given) != k:
        raise UserError(
            f"{path}: expected a skeleton of {k} keypoints, found {given.name} with {len(given)}"
        )
    return given, "as given"


def _input_wh(
    path: Path, skeleton: Skeleton, given: tuple[int, int] | None
) -> tuple[tuple[int, int], str]:
    if given is not None:
        return given, "as given"
    named = re.search(r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)", path.stem)
    if named is not None:
        height, width = int(named[1]), int(named[2])
        if height and width and not height % 32 and not width % 32:
            return (width, height), "from the file's name"
    if skeleton not in USUAL_INPUT:
        raise UserError(f"{path}: says no input size; give it with --input-size WIDTHxHEIGHT")
    return USUAL_INPUT[skeleton], "assumed; --input-size says another"
