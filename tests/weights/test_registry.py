"""The table of released weights."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import golden_rules
from hrpose.models.forward import state_shapes
from hrpose.models.networks import NETWORKS
from hrpose.weights import EMBEDDED, find
from hrpose.weights.registry import INSIDE, RELEASED, Released, listed, lookup, not_here, released
from refusals import refused

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


# What the second part of a name stands for: the data set, by its skeleton.
KEYPOINTS = {
    "coco": 17, "coco-aic": 17, "humanart": 17, "macaque": 17, "ap10k": 17, "mpii": 16,
    "crowdpose": 14, "posetrack18": 17, "aic": 14, "wholebody": 133, "ubody": 133, "halpe": 136,
    "animalpose": 20, "wholebody-hand": 21, "onehand10k": 21, "rhd": 21, "wholebody-face": 68,
    "300w": 68, "300wlp": 68, "wflw": 98, "cofw": 29, "aflw": 19,
}  # fmt: skip


@pytest.mark.parametrize("row", RELEASED.values(), ids=lambda row: row.name)
def test_a_pose_network_has_a_metadata_that_fits_its_name(row: Released) -> None:
    assert (row.metadata is not None) == (row.kind == "pose")
    if row.metadata is None:
        return
    named = re.fullmatch(
        r"((?:hrnetv2-|litehrnet-)?w?\d+)-(.+)-(\d+)x(\d+)(?:-(\w+))?(?:-v0)?", row.name
    )
    assert named is not None
    network, data, height, width = named[1], named[2], int(named[3]), int(named[4])
    assert row.metadata.network == network
    assert network in NETWORKS
    assert row.metadata.channels == KEYPOINTS[data]
    assert row.metadata.input_wh == (width, height)
    codec = row.metadata.codec
    assert codec.name == (named[5] if named[5] in ("dark", "udp") else "gaussian")
    odd = {"posetrack18": 2.0, "300w": 1.5, "300wlp": 1.5, "cofw": 1.5}
    assert codec.sigma == odd.get(data, {256: 2.0, 384: 3.0}[height])
    for part in (f"{height}x{width}", network.rpartition("-")[2], *data.split("-")):
        assert part in row.addresses[0]
    for name in ("dark", "udp"):
        assert (name in row.addresses[0]) == (codec.name == name)
    assert row.score in row.metadata.scores.values()


@pytest.mark.parametrize(
    "row", [row for row in RELEASED.values() if row.metadata], ids=lambda row: row.name
)
def test_the_weights_are_those_of_mmposes_own_network(row: Released) -> None:
    """Names, their order and shapes, as recorded from MMPose's code (tests/golden/README.md)."""
    assert row.metadata is not None
    network, k = row.metadata.network, row.metadata.channels
    entries = golden_rules.arrays("mmpose_networks")[f"{network}.state_dict"]
    expected = {}
    for entry in entries:
        key, *shape = str(entry).split()
        name = re.sub(r"^(backbone|head)\.", "", key)
        expected[name] = tuple(map(int, shape))
        if name.startswith("final_layer."):  # recorded for another number of keypoints
            expected[name] = (k, *expected[name][1:])
    assert list(state_shapes(NETWORKS[network], k).items()) == list(expected.items())


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("td-hm_hrnet-w32_8xb64-210e_coco-256x192", "w32-coco-256x192-v1"),
        (
            "configs/body/coco/td-hm_hrnet-w48_udp-8xb32-210e_coco-384x288.py",
            "w48-coco-384x288-udp",
        ),
        ("td-hm_hrnet-w48_dark-8xb32-210e_coco-wholebody-384x288", "w48-wholebody-384x288-dark"),
        ("hrnet_w32_coco_256x192", "w32-coco-256x192"),
        ("hrnet_w32_coco_256x192-c78dce93_20200708.pth", "w32-coco-256x192"),
        ("hrnet_w48_ap10k_256x256-d95ab412_20211029", "w48-ap10k-256x256"),
        ("pose_hrnet_w32_256x192.pth", "w32-coco-256x192-official"),
        ("pose_hrnet_w48_384x288", "w48-coco-384x288-official"),
        ("experiments/coco/hrnet/w48_384x288_adam_lr1e-3.yaml", "w48-coco-384x288-official"),
        (r"configs\hrnet_w32_crowdpose_256x192.py", "w32-crowdpose-256x192"),
        ("w32-coco-256x192", "w32-coco-256x192"),
    ],
)
def test_the_publishers_names_are_understood(name: str, row: str) -> None:
    assert lookup(name) is RELEASED[row]


@pytest.mark.parametrize("name", ["hrnet_w32", "folder/pose_hrnet_w32_256x192.pth", "", "w32"])
def test_other_names_are_not(name: str) -> None:
    assert lookup(name) is None


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HRPOSE_HOME", str(tmp_path / "home"))
    name = "pose_hrnet_w32_256x192.pth"
    assert not_here(name) is RELEASED["w32-coco-256x192-official"]
    Path(name).write_bytes(b"mine")
    assert find(name) == Path(name)
    assert not_here(name) is None


def test_errors_of_a_few_percent_have_a_digit_more() -> None:
    assert "published COCO AP 0.746," in RELEASED["w32-coco-256x192"].facts
    assert "published WFLW NME 0.0406," in RELEASED["hrnetv2-w18-wflw-256x256"].facts


def test_a_name_is_that_of_one_row() -> None:
    names = [name for row in RELEASED.values() for name in (row.name, *row.aliases)]
    assert len(set(names)) == len(names)
    assert not set(EMBEDDED) & set(names)


def test_a_misspelled_name_is_corrected() -> None:
    with refused("weights-unknown", "w32-crowdpose-256x192"):
        find("w32-crowdpose-256x129")
    with refused("weights-unknown", "pose_hrnet_w32_256x192"):
        released("pose_hrnet_w32_256x129.pth")


def test_weights_inside_need_no_download() -> None:
    with refused("weights-unknown", "w32-small", "inside"):
        released("w32-small")


@pytest.mark.parametrize("weights", [True, {}, 3])
def test_what_is_no_name_is_refused(weights: Any) -> None:
    with refused("weights-unknown", type(weights).__name__):
        find(weights)


def test_a_list_can_be_of_a_part() -> None:
    assert {row["name"] for row in listed("ap10k")} == {"w32-ap10k-256x256", "w48-ap10k-256x256"}
    assert [row["name"] for row in listed("c78dce93")] == ["w32-coco-256x192"]
    assert len(list(listed("AP10K"))) == 2
    with refused("weights-unknown", "w64"):
        list(listed("w64"))


@pytest.mark.parametrize(("name", "score", "_"), INSIDE)
def test_the_scores_of_weights_inside_are_those_of_their_cards(
    name: str, score: float, _: str
) -> None:
    card = (CARDS / f"{name}.md").read_text("utf-8")
    assert f"{score:.3f}".lstrip("0") in card


def test_files_and_names_are_one_to_one() -> None:
    assert len({row.file_name for row in RELEASED.values()}) == len(RELEASED)


@pytest.mark.parametrize("row", RELEASED.values(), ids=lambda row: row.name)
def test_all_addresses_are_of_the_same_file(row: Released) -> None:
    assert len(set(row.addresses)) == len(row.addresses)
    assert {urlsplit(address).path.rpartition("/")[2] for address in row.addresses} == {
        row.file_name
    }
