"""A YAML file completes a skeleton; one that does not fit is refused in one line."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrpose.data.skeleton_file import complete_skeleton, to_yaml
from hrpose.errors import UserError
from hrpose.skeleton import Skeleton
from hrpose.skeletons import SHIPPED

HORSE = Skeleton("horse", ("nose", "ear_1", "ear_2", "tail"))


def completed(folder: Path, text: str, found: Skeleton = HORSE) -> Skeleton:
    path = folder / "horse.yaml"
    path.write_text(text, encoding="utf-8")
    return complete_skeleton(found, path)


def test_everything_can_be_said(tmp_path: Path) -> None:
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


def test_what_is_not_said_stays(tmp_path: Path) -> None:
    known = Skeleton("a", ("nose", "l_ear", "r_ear"), ((1, 2),), ((0, 1),), (0.1, 0.2, 0.3))
    assert completed(tmp_path, "upper_body: [nose]", known).flip_pairs == ((1, 2),)
    assert completed(tmp_path, "{}", known) == known
    # Guessed wrongly: said to have none.
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
def test_any_names_survive(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    skeleton = Skeleton(
        "any", tuple(names), sigmas=tuple(0.01 * (i + 1) for i in range(len(names)))
    )
    bare = Skeleton("other", skeleton.keypoints)
    assert completed(tmp_path_factory.mktemp("any"), to_yaml(skeleton), bare) == skeleton


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flip_pair: []", "unknown key 'flip_pair'; did you mean 'flip_pairs'"),
        ("flip_pairs: [[ear_1, beak]]", "flip_pairs: expected keypoints .*, found beak"),
        ("flip_pairs: [[ear_1, ear_2], [ear_2, nose]]", "each keypoint in at most one pair"),
        ("flip_pairs: [[nose, nose]]", "expected pairs of different indices"),
        ("limbs: [[nose]]", "limbs.0.1: Field required"),
        ("upper_body: [wing]", "upper_body: expected keypoints .*, found wing"),
        ("sigmas: {nose: -1}", "sigmas.*greater than 0"),
        ("sigmas: .nan", "sigmas.*finite number"),
        ("sigmas: {hoof: 0.1}", "sigmas: expected keypoints .*, found hoof"),
        ("colors: {nose: red}", "colors.nose: String should match pattern"),
        ("keypoints: [nose]", "keypoints: expected those of the annotations"),
        ("[1, 2]", "expected a mapping of keys, found list"),
        ("a: [", "expected YAML"),
        ("a: " + "[" * 2000, "expected YAML"),
        ("a: 2026-13-45", "expected YAML"),
        ("a: " + "9" * 5000, "expected YAML"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"horse\.yaml: .*{message}"):
        completed(tmp_path, text)


def test_aliases_of_aliases_are_not_written_out(tmp_path: Path) -> None:
    laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for one, other in itertools.pairwise("abcdefgh"):
        laughs += f"{other}: &{other} [{', '.join([f'*{one}'] * 10)}]\n"
    with pytest.raises(UserError, match="sigmas") as caught:
        completed(tmp_path, f"{laughs}sigmas: *h\n")
    assert len(str(caught.value)) < 20_000


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.yaml: cannot be read"):
        complete_skeleton(HORSE, tmp_path / "no.yaml")
