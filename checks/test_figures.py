"""The drawings are those that the code makes; the sliders compute what the code computes."""

import re

from tools.figures import exchange, network

from hrpose.models.networks import NETWORKS, HRNetSpec
from hrpose.skeletons import COCO_17

from .pages import ROOT

FOLDER = ROOT / "docs" / "images" / "how"


def test_drawings_are_up_to_date() -> None:
    again = "`python -m tools.figures` makes it again"
    assert (FOLDER / "network.svg").read_text() == network.drawing(), again
    assert (FOLDER / "exchange.svg").read_text() == exchange.drawing(), again


def test_network_shows_every_block_of_the_table() -> None:
    hrnets = {name: spec for name, spec in NETWORKS.items() if isinstance(spec, HRNetSpec)}
    for name, spec in hrnets.items():
        blocks = sum(stage.modules * len(stage.widths) for stage in spec.stages)
        assert network.drawing(name).count(" x R<") == blocks


def test_sliders_have_coco_s_constants() -> None:
    script = (ROOT / "docs" / "assets" / "oks.js").read_text()
    found = {name: float(sigma) for name, sigma in re.findall(r"(\w+): (0\.\d+)", script)}
    assert found == dict(zip(COCO_17.keypoints, COCO_17.sigmas, strict=True))


def test_images_are_small() -> None:
    sizes = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert sum(sizes.values()) < 1_000_000, sizes


def test_nothing_is_loaded_from_elsewhere() -> None:
    for file in (ROOT / "docs" / "assets").iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text, file.name
        assert "//" not in text, file.name
