"""Merge, split, subset and stats, through the command line and below it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from hrpose.cli.main import app
from hrpose.data.coco import load_persons
from hrpose.data.editing import Keypoints
from hrpose.data.editing.merge import merge
from hrpose.data.editing.split import assign, split, stats, subset
from hrpose.data.images import ImageFiles
from hrpose.data.skeleton_file import complete_skeleton
from hrpose.skeletons import COCO_17, HAND_21, LSP_14
from refusals import refused

EARS = ("left_ear", "right_ear", "tail")


def write_set(
    folder: Path,
    names: Sequence[str] = ("a.png", "b.png"),
    keypoints: Sequence[str] = EARS,
    persons: int = 1,
    **fields: Sequence[Any],
) -> Path:
    """annotations.json and images/; `fields` are more entries of the images, one for each."""
    images, annotations = [], []
    for row, name in enumerate(names):
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 48)).save(folder / "images" / name)
        more = {key: values[row] for key, values in fields.items() if values[row] is not None}
        images.append({"id": 10 + row, "file_name": name, "width": 64, "height": 48, **more})
        for _ in range(persons):
            triples = [v for i in range(len(keypoints)) for v in (10 * i + 1, row + 2, 2)]
            annotations.append(
                {"id": 100 + len(annotations), "image_id": 10 + row, "category_id": 5,
                 "iscrowd": 0, "keypoints": triples, "num_keypoints": len(keypoints),
                 "bbox": [1, 2, 30, 40], "area": 700.0, "trust": 0.5}
            )  # fmt: skip
    category = {
        "id": 5,
        "name": "animal",
        "keypoints": list(keypoints),
        "skeleton": [[1, len(keypoints)]],
    }
    document = {
        "info": {"note": "kept"},
        "images": images,
        "annotations": annotations,
        "categories": [category, {"id": 9, "name": "ball"}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(document))
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["data", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.mark.parametrize("copy", [False, True])
def test_merged_sets_have_new_ids_and_names(tmp_path: Path, copy: bool) -> None:
    first = write_set(tmp_path / "dogs", source=["park", None])
    second = write_set(tmp_path / "cats", keypoints=EARS[::-1])
    out = tmp_path / "out"
    output = run("merge", first, second, "--out", out, *(["--copy"] if copy else []))
    assert "4 persons in 4 images" in output
    document = load(out / "annotations.json")
    assert [(i["id"], i["file_name"], i["source"]) for i in document["images"]] == [
        (1, "dogs/a.png", "park"),
        (2, "dogs/b.png", "dogs"),
        (3, "cats/a.png", "cats"),
        (4, "cats/b.png", "cats"),
    ]
    assert [a["id"] for a in document["annotations"]] == [1, 2, 3, 4]
    assert [a["image_id"] for a in document["annotations"]] == [1, 2, 3, 4]
    # The same keypoints in another order are brought into the first one's.
    assert document["annotations"][0]["keypoints"] == [1, 2, 2, 11, 2, 2, 21, 2, 2]
    assert document["annotations"][2]["keypoints"] == [21, 2, 2, 11, 2, 2, 1, 2, 2]
    assert {a["trust"] for a in document["annotations"]} == {0.5}
    table, images = load_persons(out / "annotations.json"), ImageFiles(out / "images")
    assert all(images.size(table.image_name(row)) == (64, 48) for row in range(4))
    assert (out / "images" / "dogs").is_symlink() is not copy
    assert (out / "skeleton.yaml").read_text().startswith("name: animal")


def test_names_in_another_spelling_are_the_same(tmp_path: Path) -> None:
    first = write_set(tmp_path / "dogs", keypoints=("left_ear", "right_ear", "tail", "left_paw"))
    second = write_set(tmp_path / "cats", keypoints=("Tail", "Right Ear", "LEar", "paw.l"))
    run("merge", first, second, "--out", tmp_path / "out")
    document = load(tmp_path / "out" / "annotations.json")
    (category,) = document["categories"]
    assert category["keypoints"] == ["left_ear", "right_ear", "tail", "left_paw"]
    assert document["annotations"][2]["keypoints"][::3] == [21, 11, 1, 31]


def test_links_work_after_moving_the_folder(tmp_path: Path) -> None:
    first, second = write_set(tmp_path / "data" / "dogs"), write_set(tmp_path / "data" / "cats")
    run("merge", first, second, "--out", tmp_path / "data" / "sets" / "both")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert "cats/b.png" in ImageFiles(tmp_path / "elsewhere/sets/both/images")


def test_sets_of_the_same_images_share_them(tmp_path: Path) -> None:
    first = write_set(tmp_path / "dogs")
    second = tmp_path / "dogs" / "more.json"
    second.write_text(first.read_text())
    done = merge([(first, None), (second, None)], tmp_path / "out")
    assert (done.images, done.persons, done.shared) == (2, 4, 2)
    document = load(tmp_path / "out" / "annotations.json")
    assert [a["image_id"] for a in document["annotations"]] == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("keypoints", "expected"),
    [
        (Keypoints.common, ["left_ear", "tail"]),
        (Keypoints.all, ["left_ear", "right_ear", "tail", "nose"]),
    ],
)
def test_sets_of_different_keypoints(
    tmp_path: Path, keypoints: Keypoints, expected: list[str]
) -> None:
    first = write_set(tmp_path / "dogs")
    second = write_set(tmp_path / "cats", keypoints=("rump", "left_ear", "nose"))
    with refused("keypoints-differ", "cats", "right_ear, tail", "rump, nose"):
        merge([(first, None), (second, None)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = merge([(first, None), (second, None)], tmp_path / "out", keypoints, {"rump": "tail"})
    assert list(done.skeleton.keypoints) == expected
    of_cat = load(tmp_path / "out" / "annotations.json")["annotations"][2]
    there = dict(zip(expected, zip(*[iter(of_cat["keypoints"])] * 3, strict=True), strict=True))
    assert (there["tail"], there["left_ear"]) == ((1, 2, 2), (11, 2, 2))
    assert there.get("right_ear", (0, 0, 0)) == (0, 0, 0)
    assert of_cat["num_keypoints"] == sum(v > 0 for _, _, v in there.values())


def test_attributes_of_the_keypoints_are_preserved(tmp_path: Path) -> None:
    persons = write_set(tmp_path / "persons", keypoints=COCO_17.keypoints)
    hats = write_set(tmp_path / "hats", keypoints=("hat", "glove_left", "glove_right", "nose"))
    renamed = {"left_ankle": "foot", "right_ankle": "other foot"}
    merge([(persons, None), (hats, None)], tmp_path / "out", Keypoints.all, renamed)
    found = complete_skeleton(
        load_persons(tmp_path / "out" / "annotations.json").skeleton,
        tmp_path / "out" / "skeleton.yaml",
    )
    names = found.keypoints
    pairs = {frozenset((names[a], names[b])) for a, b in found.flip_pairs}
    assert len(pairs) == len(COCO_17.flip_pairs) + 1
    assert {frozenset(renamed.values()), frozenset(("glove_left", "glove_right"))} <= pairs
    assert found.weights == (*COCO_17.weights, 1, 1, 1)


def test_colors_stay_where_all_keypoints_have_them(tmp_path: Path) -> None:
    hand = write_set(tmp_path / "hand", keypoints=HAND_21.keypoints)
    most = write_set(tmp_path / "most", keypoints=HAND_21.keypoints[1:])
    done = merge([(hand, None), (most, None)], tmp_path / "out", Keypoints.common)
    assert done.skeleton.colors == HAND_21.colors[1:]


@pytest.mark.parametrize(
    ("sizes", "targets"),
    [({"a": 1}, {"train": 1, "val": 0}), ({"a": 5, "b": 5}, {"train": 5, "val": 3, "test": 2})],
)
def test_parts_that_would_stay_empty(sizes: dict[str, int], targets: dict[str, int]) -> None:
    with refused("option-invalid", ", ".join(targets)):
        assign(sizes, targets, {}, 0)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.integers(1, 50), min_size=3, max_size=40),
    st.lists(st.floats(0.1, 1), min_size=2, max_size=3),
    st.integers(0, 3),
)
def test_parts_are_near_their_targets(sizes: list[int], shares: list[float], seed: int) -> None:
    groups = {str(i): size for i, size in enumerate(sizes)}
    ends = np.round(np.cumsum(shares) / sum(shares) * sum(sizes)).astype(int)
    targets = dict(zip("abc", np.diff(ends, prepend=0).tolist(), strict=False))
    part_of = assign(groups, targets, {}, seed)
    assert part_of == assign(groups, targets, {}, seed)
    assert set(part_of) == set(groups)
    assert set(part_of.values()) == set(targets)
    if min(targets.values()) < max(sizes):
        return  # a part may get a group only because it must not stay empty
    for part, target in targets.items():
        found = sum(size for group, size in groups.items() if part_of[group] == part)
        assert abs(found - target) <= max(sizes)


def test_split_by_images_is_exact_and_seeded(tmp_path: Path) -> None:
    path = write_set(tmp_path, [f"{i}.png" for i in range(11)], persons=2)
    shares = {"train": 7.0, "val": 2.0, "test": 1.0}
    parts = split(path, tmp_path / "out", shares)
    assert [(p.name, p.images, p.persons, p.groups) for p in parts] == [
        ("train", 8, 16, ()),
        ("val", 2, 4, ()),
        ("test", 1, 2, ()),
    ]
    documents = [load(tmp_path / "out" / f"{name}.json") for name in shares]
    ids = [image["id"] for document in documents for image in document["images"]]
    assert sorted(ids) == list(range(10, 21))
    for document in documents:
        own = {image["id"] for image in document["images"]}
        assert {a["image_id"] for a in document["annotations"]} == own
        assert document["info"] == {"note": "kept"}
        assert [c["name"] for c in document["categories"]] == ["animal"]
    split(path, tmp_path / "again", shares)
    split(path, tmp_path / "other", shares, seed=1)
    assert load(tmp_path / "again" / "val.json") == documents[1]
    assert load(tmp_path / "other" / "val.json") != documents[1]


@pytest.mark.parametrize("by", ["field", "names"])
def test_a_video_is_in_one_part(tmp_path: Path, by: str) -> None:
    names = [f"clip{video}_{frame}.png" for video in range(4) for frame in range(video + 1)]
    videos = [name[4] for name in names]
    path = write_set(tmp_path, names, video=videos)
    option = ["--group", "video"] if by == "field" else ["--group-pattern", "^clip([0-9])"]
    output = run("split", path, "--out", tmp_path / "out", *option, "--put", "3=val")
    assert "4 groups" not in output
    sides = {
        side: {i["file_name"][4] for i in load(tmp_path / "out" / f"{side}.json")["images"]}
        for side in ("train", "val")
    }
    assert sides == {"train": {"0", "1", "2"}, "val": {"3"}}


@pytest.mark.parametrize(
    ("options", "code", "mention"),
    [
        ({"group": "video"}, "option-invalid", "image 11 (b.png)"),
        ({"pattern": "^a"}, "option-invalid", "image 11 (b.png)"),
        ({"pattern": "("}, "option-invalid", "--group-pattern"),
        ({"group": "source", "pattern": "a"}, "option-conflict", "--group-pattern"),
        ({"group": "source", "put": {"c": "val"}}, "option-invalid", "x, y"),
        ({"group": "source", "put": {"x": "w"}}, "option-invalid", "train, val"),
    ],
)
def test_invalid_splits(tmp_path: Path, options: dict[str, Any], code: str, mention: str) -> None:
    path = write_set(tmp_path, video=["v", None], source=["x", "y"])
    with refused(code, mention):
        split(path, tmp_path / "out", {"train": 0.5, "val": 0.5}, **options)
    assert not (tmp_path / "out").exists()


def test_subsets(tmp_path: Path) -> None:
    path = write_set(tmp_path, [f"{i}.png" for i in range(6)], source=list("xxxxyy"))
    document = load(path)
    document["annotations"][0]["bbox"] = [0, 0, 10, 12]
    path.write_text(json.dumps(document))
    assert subset(path, tmp_path / "small") == (6, 6)
    assert subset(path, tmp_path / "large", min_size=20) == (5, 5)
    assert subset(path, tmp_path / "full", min_keypoints=3) == (6, 6)
    assert "2 persons in 2 images" in run(
        "subset", path, "--out", tmp_path / "x", "--source", "x", "--max-images", 2, "--copy"
    )
    found = load(tmp_path / "x" / "annotations.json")["images"]
    assert {image["source"] for image in found} == {"x"}
    assert sorted(p.name for p in (tmp_path / "x" / "images").iterdir()) == [
        image["file_name"] for image in found
    ]
    with refused("option-invalid", "'z'", "x, y"):
        subset(path, tmp_path / "none", sources=["z"])
    with refused("option-invalid", "7", "6"):
        subset(path, tmp_path / "none", max_images=7)
    with refused("images-missing", str(path)):
        subset(path, tmp_path / "none", min_size=50)


def test_stats_count(tmp_path: Path) -> None:
    path = write_set(tmp_path, persons=2, source=["x", "y"])
    document = load(path)
    document["annotations"][0]["keypoints"][5] = 1
    document["annotations"][1].update(keypoints=[0] * 9, num_keypoints=0)
    document["annotations"][3].update(iscrowd=1, area=9.0)
    path.write_text(json.dumps(document))
    numbers = stats(path)
    assert (numbers["persons"], numbers["images"], numbers["crowds"]) == (3, 2, 1)
    assert numbers["persons_without_keypoints"] == 1
    assert numbers["keypoints"]["right_ear"] == {"visible": 1, "hidden": 1}
    assert numbers["sources"]["y"] == {"images": 1, "persons": 1}
    assert numbers["box_longer_side"] == [40.0] * 5
    assert numbers["sizes"] == {"small": 3, "medium": 0, "large": 0}
    assert json.loads(run("stats", "--json", path))["sets"] == [numbers]
    output = run("stats", path)
    assert "3 persons in 2 images (3 small, 0 medium, 0 large)" in output
    # Names of keypoints and sources are no markup of the table.
    document["categories"][0]["keypoints"][0] = "[/ear]"
    document["images"][0]["source"] = "[/x]"
    path.write_text(json.dumps(document))
    assert {"[/ear]", "[/x]"} <= set(run("stats", path).split())
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps({**document, "images": [], "annotations": []}))
    assert "0 persons in 0 images" in run("stats", empty)


@pytest.mark.shared
def test_lspet_is_converted_and_merged(shared: Path, tmp_path: Path) -> None:
    data, lspet, both = shared / "data", tmp_path / "lspet", tmp_path / "both"
    run("convert", "lsp", data / "lspet-sample" / "joints.mat", "--out", lspet)
    table = load_persons(lspet / "annotations.json")
    assert (len(table), table.skeleton) == (240, LSP_14)
    labeled = table.keypoints[table.keypoints[..., 2] > 0]
    # Most of the keypoints are in the images.
    assert (labeled[:, :2] >= 0).mean() > 0.99
    first = (data / "coco-mini" / "val.json", lspet / "annotations.json")
    run("merge", *first, "--out", both, "--keypoints", "common")
    merged = load_persons(both / "annotations.json", unlabeled=True)
    assert (len(merged), len(merged.skeleton)) == (531, 12)
    assert set(merged.sources.tolist()) == {b"coco-mini", b"lspet-sample"}


@pytest.mark.shared
def test_sources_stay_on_one_side(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "people" / "train.json"
    run("split", path, "--out", tmp_path / "parts", "--group", "source", "--put", "badminton=val")
    sources = []
    for name in ("train", "val"):
        images = json.loads((tmp_path / "parts" / f"{name}.json").read_text())["images"]
        sources.append({image["source"] for image in images})
    assert "badminton" in sources[1]
    assert not sources[0] & sources[1]
