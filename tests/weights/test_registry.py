"""The table of released weights."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hrpose.cli.weights import INSIDE
from hrpose.models.networks import NETWORKS
from hrpose.weights import EMBEDDED
from hrpose.weights.registry import RELEASED, Released

CARDS = Path(__file__).resolve().parents[2] / "docs/models"


@pytest.mark.parametrize("row", RELEASED.values(), ids=lambda row: row.name)
def test_a_row_says_all_that_is_needed(row: Released) -> None:
    assert row.addresses
    assert all(urlsplit(address).scheme == "https" for address in row.addresses)
    assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", row.sha256)
    assert row.license.startswith(("Apache-2.0", "MIT"))
    assert row.score is None or 0 < row.score < 1
    # What MMPose writes into the name is the beginning of the hash.
    if "openmmlab" in row.addresses[0]:
        assert f"-{row.sha256[:8]}" in row.file_name


@pytest.mark.parametrize("row", RELEASED.values(), ids=lambda row: row.name)
def test_a_pose_network_has_a_metadata_that_fits_its_name(row: Released) -> None:
    assert (row.metadata is not None) == (row.kind == "pose")
    if row.metadata is None:
        return
    network, data, size, *codec = row.name.removesuffix("-official").split("-")
    assert row.metadata.network == network
    assert network in NETWORKS
    assert row.metadata.skeleton.name.startswith(data)
    height, width = (int(side) for side in size.split("x"))
    assert row.metadata.input_wh == (width, height)
    assert [row.metadata.codec.name] == (codec or ["gaussian"])
    assert row.metadata.codec.sigma == {256: 2.0, 384: 3.0}[height]
    assert size in row.addresses[0]
    assert network in row.addresses[0]
    assert data in row.addresses[0]
    assert row.score in row.metadata.scores.values()


@pytest.mark.parametrize(("name", "score", "_"), INSIDE)
def test_the_scores_of_weights_inside_are_those_of_their_cards(
    name: str, score: float, _: str
) -> None:
    card = (CARDS / f"{name}.md").read_text("utf-8")
    assert f"{score:.3f}".lstrip("0") in card


def test_files_and_names_are_one_to_one() -> None:
    assert len({row.file_name for row in RELEASED.values()}) == len(RELEASED)
    assert not set(EMBEDDED) & set(RELEASED)
