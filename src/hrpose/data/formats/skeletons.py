"""The joints that the user names with `--skeleton`: a shipped skeleton, or a file."""

from pathlib import Path

from hrpose.data.coco import read_annotations
from hrpose.data.formats.xml_file import children
from hrpose.errors import UserError
from hrpose.skeleton import SHIPPED, Skeleton, guess_flip_pairs


def skeleton_called(text: str) -> Skeleton:
    """A shipped skeleton by name, or that of a file: COCO, YAML, or a setup of Label Studio.

    Raises UserError where it is none of them.
    """
    if text in SHIPPED:
        return SHIPPED[text]
    path = Path(text)
    if not path.is_file():
        raise UserError(
            f"--skeleton {text}: expected {', '.join(SHIPPED)}, or a file "
            "(YAML, COCO JSON, Label Studio's XML), found no such file"
        )
    if path.suffix == ".json":
        return read_annotations(path).skeleton
    if path.suffix == ".xml":
        return _of_label_studio(path)
    from hrpose.data.skeleton_file import SkeletonFile, complete_skeleton
    from hrpose.yaml_file import load_as

    said = load_as(path, (), SkeletonFile)
    if not said.keypoints:
        raise UserError(f"{path}: expected 'keypoints', the names of the joints, found none")
    return complete_skeleton(_plain(path, said.name or "person", said.keypoints), path)


def _of_label_studio(path: Path) -> Skeleton:
    """The labels of the keypoints in a labelling setup."""
    parts = [part for top in children(path, "View") for part in top.iter("KeyPointLabels")]
    names = [label.get("value", "") for part in parts for label in part.iter("Label")]
    if not names:
        raise UserError(f"{path}: expected <KeyPointLabels> with <Label value=...>, found none")
    return _plain(path, "person", tuple(names))


def _plain(path: Path, name: str, keypoints: tuple[str, ...]) -> Skeleton:
    try:
        return Skeleton(name, keypoints, flip_pairs=guess_flip_pairs(keypoints))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
