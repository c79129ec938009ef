"""Skeleton files: they complete a skeleton, and invalid ones are refused."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.data.skeleton_file import complete_skeleton, find_skeleton, to_yaml
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton
from hrpose.skeletons import SHIPPED
from refusals import refused

HORSE = Skeleton("horse", ("nose", "ear_1", "ear_2", "tail"))


def completed(folder: Path, text: str, found: Skeleton = HORSE) -> Skeleton:
    path = folder / "horse.yaml"
    path.write_text(text, encoding="utf-8")
    return complete_skeleton(found, path)


def test_every_key(tmp_path: Path) -> None:
    horse = completed(
        tmp_path,
        """
        name: pony
        keypoints: [nose, ear_1, ear_2, tail]
        flip_pairs: [[ear_1, ear_2]]
        limbs: [[nose, ear_1], [nose, ear_2], [nose, tail]]
        sigmas: {nose: 0.03, tail: 0.1}
        weights: 2
        upper_body: [nose, ear_1, ear_2]
        colors: {nose: "#ff8000"}
        """,
    )
    assert horse.name == "pony"
    assert horse.flip_pairs == ((1, 2),)
    assert horse.limbs == ((0, 1), (0, 2), (0, 3))
    assert horse.sigmas == (0.03, 0.05, 0.05, 0.1)
    assert horse.weights == (2, 2, 2, 2)
    assert horse.lower_body == (3,)
    assert horse.colors == ((255, 128, 0), *((190, 190, 190),) * 3)


TUTORIAL = """{
  "keypoints": ["nose", "ear_1", "ear_2", "tail"], "skeleton": [[1, 2], [1, 3], [1, 4]],
  "flip_pairs": [[1, 2]], "kps_weights": [1.0, 1.2, 1.2, 1.5],
  "upper_body_ids": [0, 1, 2], "lower_body_ids": [3]
}"""


def test_the_file_of_keypoints_by_number(tmp_path: Path) -> None:
    horse = completed(tmp_path, TUTORIAL)
    assert horse.limbs == ((0, 1), (0, 2), (0, 3))
    assert horse.flip_pairs == ((1, 2),)
    assert horse.weights == (1, 1.2, 1.2, 1.5)
    assert (horse.upper_body, horse.lower_body) == ((0, 1, 2), (3,))
    (tmp_path / "person_keypoints.json").write_text(TUTORIAL)
    alone = find_skeleton(str(tmp_path / "person_keypoints.json"))
    assert (alone.keypoints, alone.weights) == (horse.keypoints, horse.weights)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("[1, 4]]", "[1, 5]]", "from 1 to 4"),
        ("[[1, 2]],", "[[1, true]],", "from 0 to 3"),
        ("1.5]", "1.5, 1]", "4 numbers"),
        ('"keypoints"', '"names"', "names"),
    ],
)
def test_numbers_that_are_no_keypoints(tmp_path: Path, before: str, after: str, words: str) -> None:
    with refused("recipe-invalid", words):
        completed(tmp_path, TUTORIAL.replace(before, after, 1))


def test_constants_are_given_where_the_file_gives_the_default(tmp_path: Path) -> None:
    assert not completed(tmp_path, "name: pony").has_sigmas
    assert completed(tmp_path, "sigmas: 0.05").has_sigmas
    assert completed(tmp_path, "sigmas: {nose: 0.05}").has_sigmas


def test_names_in_another_spelling(tmp_path: Path) -> None:
    text = (
        "{keypoints: [Nose, Ear 1, ear-2, TAIL], flip_pairs: [[ear 1, EAR2]], weights: {Tail: 3}}"
    )
    horse = completed(tmp_path, text)
    assert horse.keypoints == HORSE.keypoints
    assert (horse.flip_pairs, horse.weights) == (((1, 2),), (1, 1, 1, 3))


def test_keys_that_are_left_out_change_nothing(tmp_path: Path) -> None:
    known = Skeleton("a", ("nose", "l_ear", "r_ear"), ((1, 2),), ((0, 1),), (0.1, 0.2, 0.3))
    assert completed(tmp_path, "upper_body: [nose]", known).flip_pairs == ((1, 2),)
    assert completed(tmp_path, "{}", known) == known
    # Wrongly guessed pairs can be removed.
    assert completed(tmp_path, "flip_pairs: []", known).flip_pairs == ()


def test_keypoints_may_be_called_by_numbers(tmp_path: Path) -> None:
    found = Skeleton("points", ("1", "2"))
    assert completed(tmp_path, "flip_pairs: [[1, 2]]", found).flip_pairs == ((0, 1),)


@pytest.mark.parametrize("skeleton", SHIPPED.values(), ids=SHIPPED)
def test_there_and_back(tmp_path: Path, skeleton: Skeleton) -> None:
    bare = Skeleton(skeleton.name, skeleton.keypoints, category=skeleton.category)
    assert completed(tmp_path, to_yaml(skeleton), bare) == skeleton


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@given(st.lists(NAMES, min_size=1, max_size=40, unique=True))
def test_any_names(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    skeleton = Skeleton(
        "any", tuple(names), sigmas=tuple(0.01 * (i + 1) for i in range(len(names)))
    )
    bare = Skeleton("other", skeleton.keypoints)
    assert completed(tmp_path_factory.mktemp("any"), to_yaml(skeleton), bare) == skeleton


@pytest.mark.parametrize("key", ["colors", "colours"])  # older files have the British spelling
def test_both_spellings_of_colors_are_read(tmp_path: Path, key: str) -> None:
    assert completed(tmp_path, f'{key}: {{nose: "#ff8000"}}').colors[0] == (255, 128, 0)
    assert "colors:" in to_yaml(completed(tmp_path, f'{key}: {{nose: "#ff8000"}}'))


@pytest.mark.parametrize(
    ("text", "code", "mentions"),
    [
        ("flip_pair: []", "recipe-invalid", ("'flip_pair'", "'flip_pairs'")),
        ("flip_pairs: [[ear_1, beak]]", "keypoints-differ", ("flip_pairs", "beak")),
        ("flip_pairs: [[ear_1, ear_2], [ear_2, nose]]", "skeleton-invalid", ()),
        ("flip_pairs: [[nose, nose]]", "skeleton-invalid", ()),
        ("limbs: [[nose]]", "recipe-invalid", ("limbs.0.1",)),
        ("upper_body: [wing]", "keypoints-differ", ("upper_body", "wing")),
        ("sigmas: {nose: -1}", "recipe-invalid", ("sigmas",)),
        ("sigmas: .nan", "recipe-invalid", ("sigmas",)),
        ("sigmas: {hoof: 0.1}", "keypoints-differ", ("sigmas", "hoof")),
        ("colors: {nose: red}", "recipe-invalid", ("colors.nose",)),
        ("keypoints: [nose]", "keypoints-differ", ("keypoints",)),
        ("[1, 2]", "recipe-invalid", ("list",)),
        ("a: [", "recipe-invalid", ()),
        ("a: " + "[" * 2000, "recipe-invalid", ()),
        ("a: 2026-13-45", "recipe-invalid", ()),
        ("a: " + "9" * 5000, "recipe-invalid", ()),
    ],
)
def test_invalid_files(tmp_path: Path, text: str, code: str, mentions: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as caught:  # one line for each wrong value
        completed(tmp_path, text)
    assert caught.value.code == code
    assert all(mention in str(caught.value) for mention in ("horse.yaml: ", *mentions))


def test_aliases_of_aliases_are_not_written_out(tmp_path: Path) -> None:
    laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for one, other in itertools.pairwise("abcdefgh"):
        laughs += f"{other}: &{other} [{', '.join([f'*{one}'] * 10)}]\n"
    with pytest.raises(UserError) as caught:
        completed(tmp_path, f"{laughs}sigmas: *h\n")
    assert caught.value.code == "recipe-invalid"
    assert "line 5" in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with refused("file-unreadable", "no.yaml"):
        complete_skeleton(HORSE, tmp_path / "no.yaml")
