"""Checkpoints from elsewhere: the same outputs, the same bits, or an error that names what is odd.

The files are made by renaming: the names are those that the official code, mmpose and timm write.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

import golden_rules
from hrpose.errors import UserError
from hrpose.metadata import Metadata
from hrpose.models import HRNet, checkpoint, convert
from hrpose.models.convert import Known, metadata_for
from hrpose.skeleton import Skeleton
from hrpose.skeletons import COCO_17, MPII_16
from refusals import refused

State = dict[str, Tensor]
HEAD = ("final_layer.weight", "final_layer.bias")


def state_by_rule(name: str, num_keypoints: int) -> State:
    return {
        key: torch.from_numpy(golden_rules.weight(key, tuple(value.shape)))
        for key, value in HRNet.from_name(name, num_keypoints).state_dict().items()
    }


@pytest.fixture(scope="module")
def state() -> State:
    return state_by_rule("w16-small", 17)


def backbone(state: State) -> State:
    return {key: value for key, value in state.items() if key not in HEAD}


def prefixed(state: State, body: str, head: str) -> State:
    return {f"{head if key in HEAD else body}{key}": value for key, value in state.items()}


def classifier(names: Mapping[str, tuple[int, ...]]) -> State:
    return {name: torch.ones(shape) for name, shape in names.items()}


# What the classification networks have beside the backbone, in the official code and in timm ...
CLASSIFIER = {
    "incre_modules.0.0.conv1.weight": (32, 16, 1, 1),
    "downsamp_modules.0.0.weight": (256, 128, 3, 3),
    "final_layer.0.weight": (8, 4, 1, 1),
    "final_layer.0.bias": (8,),
    "final_layer.1.weight": (8,),
    "classifier.weight": (10, 8),
    "stage4.0.fuse_layers.1.0.0.0.weight": (32, 16, 3, 3),
    "stage4.0.fuse_layers.3.2.0.1.bias": (128,),
}
# ... and in the file that the official pose code starts from.
OLD_CLASSIFIER = {
    "head.0.0.0.conv1.weight": (32, 16, 1, 1),
    "head.2.0.bias": (8,),
    "fc.weight": (10, 8),
    "stage4.0.fuse_layers.1.0.0.0.weight": (32, 16, 3, 3),
}
NOTES = {"dataset_meta": {"sigmas": np.ones(17, np.float32), "name": "coco"}, "epoch": 210}

FORMS: dict[str, tuple[Callable[[State], object], str]] = {
    "official": (lambda s: s, "official"),
    "official, in training": (
        lambda s: {
            "epoch": 210,
            "model": "pose_hrnet",
            "state_dict": prefixed(s, "module.", "module."),
            "best_state_dict": s,
            "perf": np.float64(0.744),
            "optimizer": {"state": {}, "param_groups": [{"lr": 1e-5, "params": [0]}]},
        },
        "official",
    ),
    "state_dict with module.": (
        lambda s: {"state_dict": prefixed(s, "module.", "module.")},
        "official",
    ),
    "mmpose 0.x": (
        lambda s: {"meta": NOTES, "state_dict": prefixed(s, "backbone.", "keypoint_head.")},
        "mmpose 0.x",
    ),
    "mmpose 1.x": (
        lambda s: {
            "meta": NOTES,
            "state_dict": {
                "data_preprocessor.mean": torch.ones(3, 1, 1),
                "data_preprocessor.std": torch.ones(3, 1, 1),
                **prefixed(s, "backbone.", "head."),
            },
        },
        "mmpose 1.x",
    ),
    "without counters": (
        lambda s: {key: value for key, value in s.items() if "num_batches" not in key},
        "official",
    ),
}
BACKBONES: dict[str, Callable[[State], object]] = {
    "timm": lambda s: {**backbone(s), **classifier(CLASSIFIER)},
    "official classification, in training": lambda s: {
        "state_dict": prefixed({**backbone(s), **classifier(CLASSIFIER)}, "module.", "module.")
    },
    "official, for pose": lambda s: {
        **{key: value for key, value in backbone(s).items() if "num_batches" not in key},
        **classifier(OLD_CLASSIFIER),
    },
}


def outputs(weights: convert.Weights, skeleton: Skeleton) -> Tensor:
    images = torch.from_numpy(golden_rules.network_input(1, 2, 64, 64))
    with torch.inference_mode():
        return weights.build(skeleton).eval()(images)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_outputs_whoever_wrote_the_file(tmp_path: Path, state: State, form: str) -> None:
    content, origin = FORMS[form]
    torch.save(content(state), tmp_path / "in.pth")
    weights = convert.read(tmp_path / "in.pth")
    assert (weights.network, weights.num_keypoints, weights.origin) == ("w16-small", 17, origin)
    network = HRNet.from_name("w16-small").eval()
    network.load_state_dict(state)
    images = torch.from_numpy(golden_rules.network_input(1, 2, 64, 64))
    with torch.inference_mode():
        expected = network(images)
    assert float(expected.std()) > 0.01
    assert torch.equal(outputs(weights, COCO_17), expected)
    assert list(weights.state) == list(state)


def test_mmposes_preprocessing_is_dropped_and_said(tmp_path: Path, state: State) -> None:
    torch.save(FORMS["mmpose 1.x"][0](state), tmp_path / "in.pth")
    assert list(convert.read(tmp_path / "in.pth").dropped.values()) == [2]


@pytest.mark.parametrize("form", BACKBONES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_classification_network_gives_its_backbone(
    tmp_path: Path, state: State, form: str, suffix: str
) -> None:
    content, path = BACKBONES[form](state), tmp_path / f"in{suffix}"
    assert isinstance(content, dict)
    if suffix == ".pth":
        torch.save(content, path)
    else:
        safetensors.torch.save_file(content.get("state_dict", content), path)
    weights = convert.read(path)
    assert weights.num_keypoints is None
    assert weights.origin == "ImageNet classification (official or timm)"
    assert sum("classification" in reason for reason in weights.dropped) == 1
    unread = [count for reason, count in weights.dropped.items() if "exchange unit" in reason]
    assert unread == [1 if form == "official, for pose" else 2]
    assert weights.added == (sum("num_batches" in key for key in state) if "pose" in form else 0)
    assert weights.state.keys() == backbone(state).keys()
    assert all(torch.equal(value, state[key]) for key, value in weights.tensors().items())
    # What is written starts a training, and is read back as it is.
    convert.write_hrpose(tmp_path / "out.safetensors", weights, None)
    again = convert.read(tmp_path / "out.safetensors")
    assert again.num_keypoints is None
    assert all(torch.equal(value, state[key]) for key, value in again.tensors().items())
    with refused("metadata-missing", "out.safetensors"):
        checkpoint.load(tmp_path / "out.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("golden", "name", "k"),
    [
        ("hrnet_w32_coco_256x192", "w32", 17),
        pytest.param("hrnet_w48_mpii_256x256", "w48", 16, marks=pytest.mark.slow),
    ],
)
def test_official_to_ours_to_official_is_bitwise_the_same(
    tmp_path: Path, golden: str, name: str, k: int
) -> None:
    # The keys are the recorded ones of the official network, not ours.
    entries = dict(golden_rules.facts(golden)["state_dict"])
    official = {
        key: torch.from_numpy(golden_rules.weight(key, tuple(shape)))
        for key, shape in entries.items()
    }
    torch.save(official, tmp_path / "official.pth")
    weights = convert.read(tmp_path / "official.pth")
    assert (weights.network, weights.num_keypoints, dict(weights.dropped)) == (name, k, {})
    metadata, _ = metadata_for(weights, Path("official.pth"), Known())
    convert.write_hrpose(tmp_path / "ours.safetensors", weights, metadata)
    _, loaded = checkpoint.load(tmp_path / "ours.safetensors")
    assert loaded == metadata
    convert.write_official(tmp_path / "back.pth", convert.read(tmp_path / "ours.safetensors"))
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(back) == list(official)
    for key, value in official.items():
        assert back[key].dtype == value.dtype
        assert back[key].numpy().tobytes() == value.numpy().tobytes()


NAMES = [
    # The names under which the weights were published, and what they say: (w, h), codec, sigma.
    ("pose_hrnet_w32_256x192", 17, (192, 256), "gaussian", 2),
    ("pose_hrnet_w48_384x288", 17, (288, 384), "gaussian", 3),
    ("hrnet_w48_mpii_256x256-92cab7bd_20200812", 16, (256, 256), "gaussian", 2),
    ("hrnet_w32_coco_256x192_udp-aba0be42_20210220", 17, (192, 256), "udp", 2),
    ("td-hm_hrnet-w48_dark-8xb32-210e_coco-384x288-39c3c381_20220916", 17, (288, 384), "dark", 3),
    ("model_best", 17, (192, 256), "gaussian", 2),
    ("model_best", 16, (256, 256), "gaussian", 2),
    ("run_100x100", 17, (192, 256), "gaussian", 2),
]


@pytest.mark.parametrize(("name", "k", "input_wh", "codec", "sigma"), NAMES)
def test_what_a_released_files_name_says(
    tmp_path: Path, name: str, k: int, input_wh: tuple[int, int], codec: str, sigma: float
) -> None:
    weights = written(tmp_path / f"{name}.pth", state_by_rule("w16-small", k))
    metadata, reasons = metadata_for(weights, tmp_path / f"{name}.pth", Known())
    assert metadata.input_wh == input_wh
    assert (metadata.codec.name, metadata.codec.sigma) == (codec, sigma)
    assert metadata.skeleton is (COCO_17 if k == 17 else MPII_16)
    assert (metadata.network, metadata.name) == ("w16-small", name)
    assert (metadata.training_data, metadata.license) == ("unknown", "unknown")
    text = "; ".join(reasons)
    assert ("from the file's name" in text) == any(word in name for word in ("x192", "x2"))


@pytest.mark.parametrize("name", ["w32", "w32-small", "w16-small", "w16-wide"])
def test_networks_of_one_width_are_told_apart_by_their_weights(tmp_path: Path, name: str) -> None:
    assert written(tmp_path / "a.pth", state_by_rule(name, 17)).network == name


def written(path: Path, content: object) -> convert.Weights:
    torch.save(content, path)
    return convert.read(path)


def test_what_the_user_knows_comes_first(tmp_path: Path, state: State) -> None:
    path = tmp_path / "pose_hrnet_w32_256x192_udp.pth"
    skeleton = Skeleton("mine", tuple(f"k{i}" for i in range(17)))
    known = Known((64, 96), skeleton, "dark", 1.5, "my data", "mine")
    metadata, _ = metadata_for(written(path, state), path, known)
    assert (metadata.input_wh, metadata.skeleton) == ((64, 96), skeleton)
    assert (metadata.codec.name, metadata.codec.sigma) == ("dark", 1.5)
    assert (metadata.training_data, metadata.license) == ("my data", "mine")


def test_weights_of_hrpose_keep_their_metadata(tmp_path: Path, state: State) -> None:
    network = HRNet.from_name("w16-small")
    network.load_state_dict(state)
    own = Metadata("w16-small", (96, 128), name="own")
    checkpoint.save(tmp_path / "own.safetensors", network, own)
    weights = convert.read(tmp_path / "own.safetensors")
    assert metadata_for(weights, Path("own"), Known()) == (own, ["metadata: its own"])
    with refused("option-conflict", "own"):
        metadata_for(weights, Path("own"), Known(sigma=3))


@pytest.mark.parametrize(
    ("k", "known", "code", "mention"),
    [
        (17, Known(skeleton=MPII_16), "keypoints-differ", "mpii-16"),
        (5, Known(), "option-missing", "--skeleton"),
        (21, Known(), "option-missing", "--skeleton hand-21, rhd-21, interhand-21 or a file"),
        (5, Known(skeleton=Skeleton("s", tuple("abcde"))), "option-missing", "--input-size"),
    ],
)
def test_what_can_only_be_guessed_is_asked_for(
    tmp_path: Path, k: int, known: Known, code: str, mention: str
) -> None:
    path = tmp_path / "w.pth"
    weights = written(path, state_by_rule("w16-small", k))
    with refused(code, str(path), mention):
        metadata_for(weights, path, known)


def test_a_person_who_is_wider_than_high_is_doubted(tmp_path: Path, state: State) -> None:
    path = tmp_path / "w.pth"
    weights = written(path, state)
    for wh, doubted in (((256, 192), True), ((192, 256), False)):
        _, reasons = metadata_for(weights, path, Known(input_wh=wh))
        assert any("the height first" in reason for reason in reasons) == doubted


def test_a_backbone_has_no_metadata(tmp_path: Path, state: State) -> None:
    path = tmp_path / "w.pth"
    with refused("weights-unsuitable", str(path)):
        metadata_for(written(path, backbone(state)), path, Known())


def change(state: State, **changes: Tensor | None) -> State:
    changed = {**state, **{key.replace("__", "."): value for key, value in changes.items()}}
    return {key: value for key, value in changed.items() if value is not None}


def other_width(state: State, width: int) -> State:
    return change(state, stage4__0__branches__0__0__conv1__weight=torch.ones(width, width, 3, 3))


BAD: dict[str, tuple[Callable[[State], object], tuple[str, ...]]] = {
    "an entry is missing": (lambda s: change(s, bn1__bias=None), ("w16-small", "bn1.bias")),
    "an entry too many": (
        lambda s: change(s, attention__weight=torch.ones(1)),
        ("attention.weight",),
    ),
    "a head of another kind": (
        lambda s: change(s, final_layer__weight=torch.ones(17, 16, 3, 3)),
        ("final_layer.weight", "(17, 16, 1, 1)", "(17, 16, 3, 3)"),
    ),
    "half a head": (lambda s: change(s, final_layer__weight=None), ("final_layer.weight",)),
    "a scalar for a head": (
        lambda s: change(s, final_layer__weight=torch.tensor(1.0)),
        ("final_layer.weight", "()"),
    ),
    "another network": (lambda s: other_width(s, 20), ("w16-small (16)", "20")),
    "the name of one network and the body of another": (lambda s: other_width(s, 32), ("w32",)),
    "no HRNet": (lambda s: {"layer1.0.conv1.weight": torch.ones(1)}, ("layer1.0.conv1.weight",)),
    "NaN": (lambda s: change(s, bn1__bias=torch.full((64,), torch.nan)), ("bn1.bias", "NaN")),
    "twice the same": (
        lambda s: {**s, "module.bn1.bias": s["bn1.bias"]},
        ("bn1.bias", "module.bn1.bias"),
    ),
    "no tensors": (lambda s: {"epoch": 3, "loss": 0.1}, ("epoch, loss",)),
    "numbers in between": (lambda s: {"state_dict": {**s, "steps": 3}}, ("steps",)),
    "an empty state dict": (lambda s: {"state_dict": {}}, ()),
    "a list": (lambda s: [1, 2], ("list",)),
    "a tensor": (lambda s: torch.ones(2), ("a tensor",)),
    "names that are numbers": (lambda s: {0: torch.ones(1)}, ()),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named_in_one_line(tmp_path: Path, state: State, case: str) -> None:
    content, mentions = BAD[case]
    torch.save(content(state), tmp_path / "in.pth")
    damaged = case in ("NaN", "twice the same")
    code = "weights-damaged" if damaged else "weights-unsuitable"
    with refused(code, str(tmp_path / "in.pth"), *mentions):
        convert.read(tmp_path / "in.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old form"])
@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.999])
def test_a_file_cut_short_is_refused(
    tmp_path: Path, state: State, zipped: bool, part: float
) -> None:
    path = tmp_path / "in.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(UserError) as caught:
        convert.read(path)
    assert caught.value.code in ("weights-damaged", "weights-unsafe")
    assert str(path) in str(caught.value)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old form"])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_does_not_run(
    tmp_path: Path, state: State, zipped: bool
) -> None:
    trap, path = tmp_path / "sprung", tmp_path / "in.pth"
    torch.save({**state, "x": Trap(trap)}, path, _use_new_zipfile_serialization=zipped)
    with refused("weights-unsafe", str(path), os.mkdir.__module__):
        convert.read(path)
    assert not trap.exists()
    # The trap is a real one: unpickling without checks springs it.
    torch.load(path, weights_only=False)
    assert trap.is_dir()
