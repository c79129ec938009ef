"""What hrpose offers, all of it, and that its docstrings say what a user needs.

A change here is a change for users: CHANGELOG.md says it; docs/guide/stability.md has the rules.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

import pytest

import hrpose

SURFACE = """
Crop(center, size, input_wh, rotation_deg=0.0, mirrored=False, unit_lengths=False)
  .area
  .bounds(margin)
  .from_box(box_xywh, input_wh, padding=1.25, rotation_deg=0.0, unit_lengths=False)
  .inside(origin, reduction)
  .inverse_matrix
  .matrix
HRNet(spec, num_keypoints=17)
  .forward(x)
  .from_name(name, num_keypoints=17)
HubHRNet(network='w32', num_keypoints=17)
  .generate_model_card(repo_id='OWNER/NAME', **options)
  .of(network)
  .push_to_hub(repo_id, **options)
PoseEstimator(session, *, detector=None, min_score=None, flip_test=False, refine=False, \
exact=False, batch_size=16, bit_depth=None, covariance=False)
  .__call__(image, boxes=None, box_scores=None, *, bgr=False, stream=False)
  .decode(heatmaps)
  .engine
  .heatmaps(crops)
  .image(image, boxes=None, box_scores=None, *, bgr=False, size=None)
  .keypoints(crops)
  .metadata
  .selected(image, poses)
  .skeleton
  .stream(images, *, clip_scores=True, select=True)
Poses(keypoints, boxes, scores, skeleton, track_ids=None, filled=None, image_wh=None, \
source=None, covariance=None, presence=None)
  .__getitem__(chosen)
  .__iter__()
  .__len__()
  .boxes_xyxy
  .conf
  .draw(image=None, threshold=0.3, **options)
  .empty(skeleton)
  .from_coco(entries, skeleton)
  .from_target(target, skeleton=None, *, label=1, logits=False)
  .keypoint(name)
  .save(path, **options)
  .show(**options)
  .to_coco(image_id, category_id=1)
  .to_json(threshold=0.3)
  .to_pandas(threshold=0.3)
  .to_supervision(threshold=0.3)
  .to_target(convert=None, threshold=0.3)
  .xy
  .xyn
Skeleton(name, keypoints, flip_pairs=(), limbs=(), sigmas=(), weights=(), upper_body=(), \
colors=(), category='', has_sigmas=None)
  .__len__()
  .body
  .fingers
  .flip_permutation
  .from_dict(data)
  .lower_body
  .parts
  .subset(chosen)
  .to_coco_category(category_id=1)
  .to_dict()
UserError
draw(image, poses, threshold=0.3, boxes=False, *, ids=False, scores=False, names=False, \
ellipses=False, present=False, color='side', hide=None)
evaluate(name_or_file, annotations, images=None, *, boxes='ground-truth', detector='auto', \
box_threshold=None, nms='hard', metric='auto', max_detections=20, category=None, \
merge_categories=False, flip_test=True, refine=False, batch_size=64, device='auto', \
precision='auto', out=None, progress=None, notify=None)
export(name_or_file, out, *, half=False, target=None)
finetune(train, val, out=None, *, weights='w16-small', images=None, val_images=None, \
skeleton=None, category=None, merge_categories=False, input_size=None, overrides=(), resume=False, \
resume_with_changes=False)
from_pretrained(repo_id, *, revision=None, **options)
hrnet_w16_small(weights=None, *, num_keypoints=None, download=False)
hrnet_w32(weights=None, *, num_keypoints=None, download=False)
hrnet_w32_small(weights=None, *, num_keypoints=None, download=False)
hrnet_w48(weights=None, *, num_keypoints=None, download=False)
hrnetv2_w18(weights=None, *, num_keypoints=None, download=False)
litehrnet_18(weights=None, *, num_keypoints=None, download=False)
litehrnet_30(weights=None, *, num_keypoints=None, download=False)
load(name_or_file='w32-small', *, detector='auto', box_threshold=None, min_score=None, \
flip_test=False, refine=False, exact=False, batch_size=16, bit_depth=None, \
covariance=False, hands=None, threads=None, device='auto', precision='auto')
measure(sources, definitions=None, *, weights='w32-small', skeleton=None, only=(), height=None, \
known=None, camera=None, facing='auto', person=None, threshold=0.3, \
offline=True, **options)
push_to_hub(weights_files, repo_id, *, private=True)
track(source, name_or_file='w32-small', *, smooth=True, **options)
train(recipe, data, out, *, overrides=(), resume=False, resume_with_changes=False)
"""

_OPERATORS = {"__call__", "__getitem__", "__iter__", "__len__"}
_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Entry:
    """A public name, how it is called ("" for what is no call), and all that its user reads."""

    name: str
    call: Callable[..., Any] | None
    doc: str
    owners_doc: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        if self.call is None:
            return {}
        found = inspect.signature(self.call).parameters
        return {name: value for name, value in found.items() if name not in ("self", "cls")}

    def line(self) -> str:
        """The call without annotations."""
        if self.call is None:
            return self.name
        bare = [value.replace(annotation=_EMPTY) for value in self.parameters.values()]
        return f"{self.name}{inspect.Signature(bare)}"

    def annotations(self) -> dict[str, str]:
        """Each parameter, and `return`, with its type as text."""
        if self.call is None:
            return {}
        found = {name: str(value.annotation) for name, value in self.parameters.items()}
        result = inspect.signature(self.call).return_annotation
        return found if result is _EMPTY else {**found, "return": str(result)}


def entries() -> Iterator[Entry]:
    """Every name of `hrpose`, each class followed by what it offers itself."""
    for name in sorted(hrpose.__all__):
        offered = getattr(hrpose, name)
        doc = inspect.getdoc(offered) or ""
        if not inspect.isclass(offered):
            yield Entry(name, offered, doc)
            continue
        yield Entry(name, None if issubclass(offered, Exception) else offered, doc)
        hidden = {f.name for f in fields(offered)} if is_dataclass(offered) else set()
        for member, value in sorted(vars(offered).items()):
            if member in hidden or (member.startswith("_") and member not in _OPERATORS):
                continue
            kind = value
            if isinstance(value, classmethod | staticmethod):
                value = kind = value.__func__
            elif isinstance(value, property):
                kind, value = None, value.fget
            elif isinstance(value, cached_property):
                kind, value = None, value.func
            elif not inspect.isfunction(value):
                continue
            yield Entry(f"{name}.{member}", kind, inspect.getdoc(value) or "", doc)


ENTRIES = list(entries())


def test_the_public_surface() -> None:
    found = "\n".join(re.sub(r"^\w+\.(?=\w)", "  .", entry.line()) for entry in ENTRIES)
    assert found == SURFACE.strip()


def test_dir_lists_it() -> None:
    assert set(dir(hrpose)) == {*hrpose.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'pose'"):
        _ = hrpose.pose


WORDED = [entry for entry in ENTRIES if not entry.name.endswith(("__iter__", "__len__"))]


@pytest.mark.parametrize("entry", WORDED, ids=str)
def test_a_docstring_says_each_argument(entry: Entry) -> None:
    assert entry.doc
    said = entry.doc + entry.owners_doc
    missing = [name for name in entry.parameters if not re.search(rf"\b{name}\b", said)]
    # One or two letters, and what the first line is about, need no sentence of their own.
    first = entry.doc.partition("\n")[0].lower()
    missing = [m for m in missing if len(m) > 1 and not any(w in first for w in m.split("_"))]
    assert missing == []


# An array's layout: (n, k, 3), (h, w, 3), (k,), [x, y, w, h].
SHAPE = re.compile(r"[(\[]\w(?:[\w/]*)(?:, ?[\w/]+)*,?[)\]]")
# A function that is given has arrays of its own, which its own page says.
ARRAY = re.compile(r"^(?!.*Callable).*(NDArray|ndarray|ArrayLike|Tensor)")


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if any(map(ARRAY.search, e.annotations().values()))], ids=str
)
def test_a_docstring_says_the_shapes_of_arrays(entry: Entry) -> None:
    said = entry.doc + entry.owners_doc
    assert SHAPE.search(said), said


# What a quantity is measured in: which names ask for it, and what counts as an answer.
UNITS = {
    r"(^|_)(?<!batch_)(size|center|wh|boxes|xywh|origin)$": r"pixel",
    r"_deg$": r"_deg|degree",
    r"(^|_)(scores?|threshold)$": r"\[0, 1\]",
    r"timeout": r"second",
    r"^batch_size$": r"crops",
}


@pytest.mark.parametrize("entry", WORDED, ids=str)
def test_a_docstring_says_units_and_ranges(entry: Entry) -> None:
    said = entry.doc + entry.owners_doc
    for name, parameter in entry.parameters.items():
        # A switch has no unit, and neither has the name of a file.
        if parameter.annotation in (bool, "bool") or re.search(
            r"\b(str|Path)\b", str(parameter.annotation)
        ):
            continue
        for asks, answer in UNITS.items():
            if re.search(asks, name):
                assert re.search(answer, said), f"{name}: expected {answer} in the docstring"


def raises_user_error(entry: Entry) -> bool:
    """Whether it checks what it is given, which its user must know of."""
    return entry.name in {
        "load", "train", "finetune", "evaluate", "export", "from_pretrained", "push_to_hub",
    }  # fmt: skip


@pytest.mark.parametrize("entry", [e for e in ENTRIES if raises_user_error(e)], ids=str)
def test_a_docstring_says_what_goes_wrong(entry: Entry) -> None:
    assert "Raises UserError" in entry.doc


@pytest.mark.parametrize(
    ("doc", "shaped"),
    [
        ("uint8 crops (n, h, w, 3) to heatmaps", True),
        ("(k,): the keypoint", True),
        ("boxes [x, y, w, h]", True),
        ("heatmaps (n, k, h/4, w/4)", True),
        ("an array of points", False),
        ("an array (of course)", False),
    ],
)
def test_a_shape_is_known_when_it_is_seen(doc: str, shaped: bool) -> None:
    assert bool(SHAPE.search(doc)) == shaped
