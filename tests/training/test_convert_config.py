"""`hrpose convert-config`: every key of a configuration is accounted for, and nothing runs."""

import copy
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from conftest import ROOT
from hrpose.cli.main import app
from hrpose.errors import UserError
from hrpose.training.config_files import leaves_of, read_config
from hrpose.training.convert_config import Conversion, convert_config
from hrpose.training.recipe import load_recipe
from refusals import check_refusal, refused


def stages(width: int, spell: Any) -> dict[str, Any]:
    """Stages 2 to 4 of the paper's networks, with keys spelled as a project spells them."""
    return {
        spell(f"stage{number}"): {
            spell("num_modules"): modules,
            spell("num_branches"): number,
            spell("block"): "BASIC",
            spell("num_blocks"): [4] * number,
            spell("num_channels"): [width * 2**branch for branch in range(number)],
        }
        for number, modules in ((2, 1), (3, 4), (4, 3))
    }


def official(width: int, wh: tuple[int, int], sigma: int, per_gpu: int, mpii: bool) -> Any:
    """The keys of a configuration in `experiments` that the trainings of the paper differ by."""
    return {
        "GPUS": "(0,1,2,3)", "PRINT_FREQ": 100,
        "DATASET": {
            "COLOR_RGB": True, "DATASET": "mpii" if mpii else "coco", "DATA_FORMAT": "jpg",
            "FLIP": True, "NUM_JOINTS_HALF_BODY": 8, "PROB_HALF_BODY": -1.0 if mpii else 0.3,
            "ROOT": "data/coco/", "ROT_FACTOR": 30 if mpii else 45,
            "SCALE_FACTOR": 0.25 if mpii else 0.35,
            "TEST_SET": "valid" if mpii else "val2017",
            "TRAIN_SET": "train" if mpii else "train2017",
        },
        "MODEL": {
            "NAME": "pose_hrnet", "NUM_JOINTS": 16 if mpii else 17, "TARGET_TYPE": "gaussian",
            "PRETRAINED": f"models/hrnet_w{width}-{'36af842e' if width == 32 else '8ef0771d'}.pth",
            "IMAGE_SIZE": [*wh], "HEATMAP_SIZE": [wh[0] // 4, wh[1] // 4], "SIGMA": sigma,
            "EXTRA": {"FINAL_CONV_KERNEL": 1, **stages(width, str.upper)},
        },
        "LOSS": {"USE_TARGET_WEIGHT": True},
        "TRAIN": {"BATCH_SIZE_PER_GPU": per_gpu, "LR": 0.001, "LR_FACTOR": 0.1,
                  "LR_STEP": [170, 200], "WD": 0.0001, "OPTIMIZER": "adam", "END_EPOCH": 210},
        "TEST": {"FLIP_TEST": True, "USE_GT_BBOX": True, "POST_PROCESS": True,
                 "SHIFT_HEATMAP": True, "OKS_THRE": 0.9, "IN_VIS_THRE": 0.2},
    }  # fmt: skip


W32 = official(32, (192, 256), 2, 32, False)


def write_yaml(path: Path, keys: Any) -> Path:
    path.write_text(yaml.safe_dump(keys))
    return path


PAPER = {
    "w32-coco-256x192": W32,
    "w32-coco-384x288": official(32, (288, 384), 3, 32, False),
    "w48-coco-256x192": official(48, (192, 256), 2, 32, False),
    "w48-coco-384x288": official(48, (288, 384), 3, 24, False),
    "w32-mpii-256x256": official(32, (256, 256), 2, 32, True),
    "w48-mpii-256x256": official(48, (256, 256), 2, 32, True),
}


@pytest.mark.parametrize("name", PAPER)
def test_official_configurations_become_the_recipes_of_the_paper(name: str, tmp_path: Path) -> None:
    found = convert_config(write_yaml(tmp_path / f"{name}.yaml", PAPER[name]))
    expected = load_recipe(ROOT / "recipes" / f"{name}.yaml")
    assert found.not_supported == ()
    parts = ("name", "network", "input_wh", "weights", "codec", "loss", "optimizer", "schedule",
             "augmentation")  # fmt: skip
    for part in parts:
        assert getattr(found.recipe, part) == getattr(expected, part), part
    assert found.recipe.training.batch_size == expected.training.batch_size
    assert found.recipe.training.epochs == expected.training.epochs == 210
    assert found.recipe.evaluation == expected.evaluation.model_copy(
        update={"batch_size": 4 * PAPER[name]["TEST"].get("BATCH_SIZE_PER_GPU", 32)}
    )
    if "coco" in name:
        assert found.recipe.data.train == expected.data.train


BASE = """
custom_hooks = [dict(type='SyncBuffersHook')]
train_cfg = dict(by_epoch=True)
backend = dict(backend='disk')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=1, momentum=0.9))
"""
MMPOSE = f"""
_base_ = ['../../_base_/runtime.py']
train_cfg = dict(max_epochs=210, val_interval=10)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', begin=0, end=500, start_factor=0.001, by_epoch=False),
    dict(type='MultiStepLR', begin=0, end=210, milestones=[170, 200], gamma=0.1, by_epoch=True)]
auto_scale_lr = dict(base_batch_size=512)
codec = dict(type='MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor', mean=[123.675, 116.28, 103.53],
                           std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(type='HRNet', in_channels=3, extra={stages(32, str)!r},
                  init_cfg=dict(type='Pretrained', checkpoint='https://example.org/'
                                'hrnet_w32-36af842e.pth')),
    head=dict(type='HeatmapHead', in_channels=32, out_channels=17, decoder=codec,
              loss=dict(type='KeypointMSELoss', use_target_weight=True)),
    test_cfg=dict(flip_test=True, flip_mode='heatmap', shift_heatmap=True))
root = 'data/coco/'
train_pipeline = [
    dict(type='LoadImage', backend_args={{{{_base_.backend}}}}),
    dict(type='GetBBoxCenterScale'), dict(type='RandomFlip', direction='horizontal'),
    dict(type='RandomHalfBody'), dict(type='RandomBBoxTransform', shift_prob=0),
    dict(type='TopdownAffine', input_size=codec['input_size']),
    dict(type='GenerateTarget', encoder=codec), dict(type='PackPoseInputs')]
train_dataloader = dict(batch_size=64, num_workers=2, dataset=dict(
    type='CocoDataset', data_root=root, ann_file=f'annotations/train.json',
    data_prefix=dict(img='train2017/'), pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(
    type='CocoDataset', data_root=root, ann_file='annotations/val.json',
    bbox_file=root + 'boxes/detected.json', data_prefix=dict(img='val2017/'),
    test_mode=True, pipeline=[
        dict(type='LoadImage'), dict(type='GetBBoxCenterScale'),
        dict(type='TopdownAffine', input_size=codec['input_size']), dict(type='PackPoseInputs')]))
test_dataloader = val_dataloader
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An MMPose configuration in a tree like the project's."""
    (tmp_path / "configs" / "_base_").mkdir(parents=True)
    (tmp_path / "configs" / "body" / "coco").mkdir(parents=True)
    (tmp_path / "configs" / "_base_" / "runtime.py").write_text(BASE)
    path = tmp_path / "configs" / "body" / "coco" / "hrnet.py"
    path.write_text(MMPOSE)
    return path


def replaced(path: Path, *pairs: tuple[str, str]) -> Path:
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_an_mmpose_configuration_becomes_a_recipe(config: Path) -> None:
    found = convert_config(config)
    recipe = found.recipe
    assert found.not_supported == ()
    assert (recipe.name, recipe.network, recipe.input_wh) == ("hrnet", "w32", (192, 256))
    assert str(recipe.weights) == "w32-imagenet"
    assert (recipe.codec.name, recipe.codec.sigma) == ("gaussian", 2)
    assert (recipe.optimizer.name, recipe.optimizer.lr) == ("adam", 5e-4)
    assert (recipe.training.batch_size, recipe.optimizer.base_batch_size) == (512, 512)
    assert (recipe.schedule.warmup_steps, recipe.schedule.milestones) == (500, (170, 200))
    assert recipe.augmentation.model_dump() == {
        "scale": 0.5, "rotation_deg": 40, "rotation_probability": 0.6, "flip_probability": 0.5,
        "half_body_probability": 0.3, "half_body_min_keypoints": 8, "half_body_padding": 1.5,
        "half_body_upper_probability": 0.7, "shift": 0, "photometric": 0, "draws": "normal",
    }  # fmt: skip
    assert not recipe.loss.keypoint_weights
    assert str(recipe.data.train.images) == "train2017"
    assert recipe.evaluation.boxes == "boxes/detected.json"
    assert recipe.evaluation.every_epochs == 10


def test_what_a_pipeline_lacks_is_off(config: Path) -> None:
    replaced(
        config,
        ("dict(type='RandomFlip', direction='horizontal'),", ""),
        ("dict(type='RandomHalfBody'), dict(type='RandomBBoxTransform', shift_prob=0),", ""),
    )
    augmentation = convert_config(config).recipe.augmentation
    assert augmentation.flip_probability == augmentation.half_body_probability == 0
    assert augmentation.scale == augmentation.rotation_deg == 0


@pytest.mark.parametrize(
    ("codec", "shift", "expected"),
    [
        ("type='MSRAHeatmap', unbiased=True, blur_kernel_size=11", "True", "dark"),
        ("type='UDPHeatmap'", "False", "udp"),
    ],
)
def test_codecs(config: Path, codec: str, shift: str, expected: str) -> None:
    affine = "input_size=codec['input_size']" + (", use_udp=True" if expected == "udp" else "")
    replaced(
        config,
        ("type='MSRAHeatmap'", codec),
        ("shift_heatmap=True", f"shift_heatmap={shift}"),
        ("input_size=codec['input_size']", affine),
    )
    found = convert_config(config)
    assert found.recipe.codec.name == expected
    assert found.not_supported == ()


@pytest.mark.parametrize("neck", [True, False])
def test_the_second_version_of_the_network(config: Path, neck: bool) -> None:
    widths = [18, 36, 72, 144]
    head = "type='HeatmapHead', conv_out_channels=(270,), conv_kernel_sizes=(1,)"
    concat = "neck=dict(type='FeatureMapProcessor', concat=True), "
    if not neck:
        concat = ""
        head += f", input_transform='resize_concat', input_index=(0, 1, 2, 3), more={widths}"
    replaced(
        config,
        (repr(stages(32, str)), repr(stages(18, str))),
        ("head=dict(type='HeatmapHead', in_channels=32", f"{concat}head=dict({head}"),
    )
    found = convert_config(config)
    assert found.recipe.network == "hrnetv2-w18"
    assert [entry.key for entry in found.not_supported] == ["model.head.more"] * (not neck)


NOT_SUPPORTED = [
    ("decoder=codec", "decoder=codec, final_layer=dict(kernel_size=3)",
     "model.head.final_layer.kernel_size"),
    ("optimizer=dict(_delete_=True,", "clip_grad=dict(max_norm=1), optimizer=dict(_delete_=True,",
     "optim_wrapper.clip_grad.max_norm"),
    ("shift_heatmap=True", "shift_heatmap=False", "model.test_cfg.shift_heatmap"),
    ("encoder=codec", "encoder=dict(codec, sigma=3)".replace("codec, ", "**codec, "),
     "train_dataloader.dataset.pipeline.GenerateTarget.encoder.sigma"),
    ("dict(type='GenerateTarget'", "dict(type='Mixup', prob=.5), dict(type='GenerateTarget'",
     "train_dataloader.dataset.pipeline.Mixup.prob"),
    ("type='Adam', lr", "type='Lion', lr", "optim_wrapper.optimizer.type"),
    ("use_target_weight=True", "use_target_weight=False", "model.head.loss.use_target_weight"),
    ("type='CocoDataset', data_root=root, ann_file=f", "type='MpiiDataset', ann_file=f",
     "train_dataloader.dataset.type"),
    ("shift_prob=0", "shift_prob=0, scale_factor=(.8, 1.5)",
     "train_dataloader.dataset.pipeline.RandomBBoxTransform.scale_factor"),
    ("backend_args=", "imdecode_backend='cv2', backend_args=", ""),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key"), NOT_SUPPORTED)
def test_what_hrpose_cannot_follow_is_listed(config: Path, old: str, new: str, key: str) -> None:
    found = convert_config(replaced(config, (old, new)))
    assert [entry.key for entry in found.not_supported] == [key] * bool(key)


OTHERS = [
    ("MODEL.NAME", "pose_higher_resolution_net"),
    ("MODEL.IMAGE_SIZE", "192x256"),
    ("DATASET.TRAIN_SET", ["train2017", "more"]),
]


def with_key(key: str, value: Any) -> Any:
    keys = copy.deepcopy(W32)
    section, name = key.split(".")
    keys[section][name] = value
    return keys


@pytest.mark.parametrize(("key", "value"), OTHERS)
def test_another_training_of_the_official_form_is_refused(
    key: str, value: Any, tmp_path: Path
) -> None:
    named = "train" if key == "DATASET.TRAIN_SET" else key
    with refused("config-unsupported", named):
        convert_config(write_yaml(tmp_path / "other.yaml", with_key(key, value)))


def test_texts_of_the_official_code_are_what_yacs_takes_them_for(tmp_path: Path) -> None:
    keys = copy.deepcopy(W32)
    keys["TRAIN"] |= {"LR": "1e-3", "LR_STEP": "(170, 200)", "BATCH_SIZE_PER_GPU": "32"}
    keys["DATASET"] |= {"PROB_HALF_BODY": "0.3", "FLIP": "True"}
    keys["MODEL"] |= {"IMAGE_SIZE": "[192, 256]"}
    plain = convert_config(write_yaml(tmp_path / "w32.yaml", W32))
    texts = convert_config(write_yaml(tmp_path / "w32.yaml", keys))
    assert texts.recipe == plain.recipe
    assert texts.not_supported == ()


@pytest.mark.parametrize(
    ("key", "value"), [("DATASET.FLIP", "false"), ("TEST.USE_GT_BBOX", "no"),
                       ("TEST.USE_GT_BBOX", False), ("LOSS.USE_OHKM", "false")]
)  # fmt: skip
def test_what_is_neither_true_nor_false_and_boxes_without_a_file_are_listed(
    key: str, value: Any, tmp_path: Path
) -> None:
    found = convert_config(write_yaml(tmp_path / "w32.yaml", with_key(key, value)))
    assert [entry.key for entry in found.not_supported] == [key]
    assert found.recipe.loss.name == "mse"


def test_one_schedule_needs_no_list(config: Path) -> None:
    scheduled = "\nparam_scheduler = dict(type='MultiStepLR', milestones=[9], gamma=0.5)\n"
    config.write_text(MMPOSE + scheduled)
    schedule = convert_config(config).recipe.schedule
    assert (schedule.milestones, schedule.gamma) == ((9,), 0.5)


REFUSED = [
    ("decoder=codec", "decoder=codec, conv_out_channels=(32,), conv_kernel_sizes=(1,)", "conv_out"),
    ("num_branches': 3", "num_branches': 3, 'num_modules': 9", "network"),
    ("type='HRNet'", "type='HRFormer'", "model.backbone.type"),
    ("head=dict(type='HeatmapHead'", "neck=dict(type='Map'), head=dict(type='HeatmapHead'", "neck"),
    ("type='MSRAHeatmap'", "type='SimCCLabel'", "codec"),
    ("type='CocoDataset', data_root=root, ann_file=f", "type='CombinedDataset', files=f", "merge"),
]


@pytest.mark.parametrize(("old", "new", "named"), REFUSED)
def test_another_training_is_refused(config: Path, old: str, new: str, named: str) -> None:
    with refused("config-unsupported", named):
        convert_config(replaced(config, (old, new)))


OLD = f"""
_base_ = ['runtime.py']
total_epochs = 210
evaluation = dict(interval=10, metric='mAP', save_best='AP')
optimizer = dict(type='Adam', lr=5e-4)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001,
                 step=[170, 200])
channel_cfg = dict(num_output_channels=17, dataset_joints=17)
model = dict(
    type='TopDown', pretrained='https://example.org/' 'hrnet_w32-36af842e.pth',
    backbone=dict(type='HRNet', in_channels=3, extra={stages(32, str)!r}),
    keypoint_head=dict(type='TopdownHeatmapSimpleHead', in_channels=32, num_deconv_layers=0,
                       out_channels=channel_cfg['num_output_channels'],
                       extra=dict(final_conv_kernel=1, ),
                       loss_keypoint=dict(type='JointsMSELoss', use_target_weight=True)),
    train_cfg=dict(),
    test_cfg=dict(flip_test=True, post_process='unbiased', shift_heatmap=True, modulate_kernel=11))
data_cfg = dict(
    image_size=[192, 256], heatmap_size=[48, 64], num_joints=channel_cfg['dataset_joints'],
    inference_channel=[0, 1], soft_nms=False, nms_thr=1.0, oks_thr=0.9, vis_thr=0.2,
    use_gt_bbox=False, det_bbox_thr=0.1, bbox_file='data/coco/boxes/' 'detected.json')
normalize = dict(type='NormalizeTensor', mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='TopDownGetBboxCenterScale', padding=1.2),
    dict(type='TopDownRandomShiftBboxCenter', shift_factor=0.16, prob=0.3),
    dict(type='TopDownRandomFlip', flip_prob=0.5),
    dict(type='TopDownHalfBodyTransform', num_joints_half_body=8, prob_half_body=0.3),
    dict(type='TopDownGetRandomScaleRotation', rot_factor=40, scale_factor=0.5),
    dict(type='TopDownAffine'), dict(type='ToTensor'), normalize,
    dict(type='TopDownGenerateTarget', sigma=2, unbiased_encoding=True),
    dict(type='Collect', keys=['img'], meta_keys=['center', 'scale'])]
val_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='TopDownGetBboxCenterScale', padding=1.2),
    dict(type='TopDownAffine'), dict(type='ToTensor'), normalize,
    dict(type='Collect', keys=['img'], meta_keys=['center'])]
root = 'data/coco'
data = dict(
    samples_per_gpu=64, workers_per_gpu=2, val_dataloader=dict(samples_per_gpu=32),
    train=dict(type='TopDownCocoDataset', ann_file=f'{{root}}/annotations/train.json',
               img_prefix=f'{{root}}/train2017/', data_cfg=data_cfg, pipeline=train_pipeline,
               dataset_info={{{{_base_.dataset_info}}}}),
    val=dict(type='TopDownCocoDataset', ann_file=f'{{root}}/annotations/val.json',
             img_prefix=f'{{root}}/val2017/', data_cfg=data_cfg, pipeline=val_pipeline))
"""
OLD_BASE = """
checkpoint_config = dict(interval=10)
log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook')])
log_level = 'INFO'
load_from = None
resume_from = None
dist_params = dict(backend='nccl')
workflow = [('train', 1)]
dataset_info = dict(dataset_name='coco', keypoint_info={0: dict(name='nose', id=0, swap='')})
"""


@pytest.fixture
def old_config(tmp_path: Path) -> Path:
    """A configuration of MMPose 0.x."""
    (tmp_path / "runtime.py").write_text(OLD_BASE)
    (path := tmp_path / "old.py").write_text(OLD)
    return path


def test_mmpose_0_becomes_a_recipe(old_config: Path) -> None:
    found = convert_config(old_config)
    recipe = found.recipe
    assert found.not_supported == ()
    assert (recipe.network, recipe.input_wh, str(recipe.weights)) == (
        "w32", (192, 256), "w32-imagenet"
    )  # fmt: skip
    assert (recipe.codec.name, recipe.codec.sigma, recipe.data.padding) == ("dark", 2, 1.2)
    assert recipe.augmentation.model_dump() == {
        "scale": 0.5, "rotation_deg": 40, "rotation_probability": 0.6, "flip_probability": 0.5,
        "half_body_probability": 0.3, "half_body_min_keypoints": 8, "half_body_padding": 1.5,
        "half_body_upper_probability": 0.69, "shift": 0.0506, "photometric": 0, "draws": "normal",
    }  # fmt: skip
    assert (recipe.training.epochs, recipe.training.batch_size) == (210, 64)
    assert (recipe.schedule.warmup_steps, recipe.schedule.milestones) == (500, (170, 200))
    assert recipe.evaluation.boxes == "data/coco/boxes/detected.json"
    assert recipe.evaluation.box_threshold == 0.1
    assert str(recipe.data.val.images) == "data/coco/val2017"


def test_the_second_version_of_the_network_in_mmpose_0(old_config: Path) -> None:
    replaced(
        old_config,
        (repr(stages(32, str)), repr(stages(18, str))),
        ("in_channels=32,", "in_channels=[18, 36, 72, 144], in_index=(0, 1, 2, 3),"),
        ("extra=dict(final_conv_kernel=1, )", "input_transform='resize_concat', extra=dict("
         "final_conv_kernel=1, num_conv_layers=1, num_conv_kernels=(1, ))"),
    )  # fmt: skip
    found = convert_config(old_config)
    assert found.recipe.network == "hrnetv2-w18"
    assert found.not_supported == ()


OLD_CHANGES = [
    ("type='TopDownGenerateTarget', sigma=2, unbiased_encoding=True", "udp",
     "type='TopDownGenerateTarget', sigma=2, encoding='UDP', target_type='GaussianHeatmap'"),
    (", unbiased_encoding=True", "gaussian", ""),
]  # fmt: skip


@pytest.mark.parametrize(("old", "codec", "new"), OLD_CHANGES)
def test_codecs_of_mmpose_0(old_config: Path, old: str, codec: str, new: str) -> None:
    udp = codec == "udp"
    more = f"post_process='default', shift_heatmap={not udp}, use_udp={udp}"
    replaced(
        old_config,
        (old, new),
        ("post_process='unbiased', shift_heatmap=True", more),
        ("dict(type='TopDownAffine')", f"dict(type='TopDownAffine', use_udp={udp})"),
    )
    found = convert_config(old_config)
    assert found.recipe.codec.name == codec
    assert found.not_supported == ()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (
            "sigma=2,",
            "sigma=2, kernel=(11, 11),",
            "data.train.pipeline.TopDownGenerateTarget.kernel",
        ),
        ("flip_prob=0.5", "flip_prob=0.5, more=1", "data.train.pipeline.TopDownRandomFlip.more"),
        ("policy='step'", "policy='poly'", "lr_config.policy"),
        ("grad_clip=None", "grad_clip=1.0", "optimizer_config.grad_clip"),
        ("modulate_kernel=11", "modulate_kernel=17", "model.test_cfg.modulate_kernel"),
        (
            "final_conv_kernel=1,",
            "final_conv_kernel=3,",
            "model.keypoint_head.extra.final_conv_kernel",
        ),
    ],
)
def test_what_mmpose_0_does_otherwise_is_listed(
    old_config: Path, old: str, new: str, key: str
) -> None:
    found = convert_config(replaced(old_config, (old, new)))
    assert [entry.key for entry in found.not_supported] == [key]


def every(found: Conversion) -> list[str]:
    sorts = (found.mapped, found.without_effect, found.not_supported)
    return [entry.key for sort in sorts for entry in sort]


VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.just([1, 2])


def changed(keys: Any, path: tuple[str, ...], value: Any) -> Any:
    copied = copy.deepcopy(keys)
    node = copied
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return copied


def paths(keys: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in keys.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from paths(value, (*above, name))


GROUPS = [(), ("MODEL",), ("MODEL", "EXTRA"), ("TRAIN",), ("TEST",), ("DATASET",)]


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(paths(W32)))
    | st.tuples(st.sampled_from(GROUPS), st.text("AB_", min_size=1)).map(lambda p: (*p[0], p[1])),
    VALUES,
)
def test_every_key_is_accounted_for_once(
    tmp_path_factory: pytest.TempPathFactory, path: tuple[str, ...], value: Any
) -> None:
    keys = changed(W32, path, value)
    file = write_yaml(tmp_path_factory.mktemp("config") / "changed.yaml", keys)
    own = {key for key, _ in leaves_of(keys, "")}
    try:
        found = every(convert_config(file))
    except Exception as error:
        assert getattr(error, "code", "") in ("config-unsupported", "recipe-invalid")  # noqa: PT017
        return
    assert len(found) == len(set(found))
    assert own <= set(found)


DOES = {
    "an import": "import os",
    "a call": "a = open('x')",
    "a method": "a = ''.join(['x'])",
    "an attribute": "a = 'x'\nb = a.upper",
    "a class's": "a = dict.mro",
    "a loop": "a = [b for b in 'xy']",
    "a condition": "a = 1 if True else 2",
    "a function": "def a(): pass",
    "a lambda": "a = lambda: 1",
    "an f-string's format": "a = f'{1!r}'",
    "a power": "a = 9 ** 9 ** 9",
    "a product of text": "a = 'x' * 10**9",
    "a growing text": "a = 'xx'\n" + "a = a + a\n" * 99,
    "a growing number": "a = 999\n" + "a = a * a\n" * 99,
    "a growing list": "a = [0]\n" + "a = [a, a, a]\n" * 99,
    "an unknown name": "a = b",
    "an index too high": "a = [1]\nb = a[1]",
    "two targets": "a = b = 1",
    "a part": "a = {}\na['b'] = 1",
    "depth": "a = " + "[" * 5000,
    "signs": "a = " + "-" * 90000 + "1",
    "a sum": "a = " + "1+" * 90000 + "1",
    "a long number": "a = " + "9" * 9000,
    "itself": "_base_ = './config.py'",
    "another folder": "_base_ = '../secret.py'",
    "an absolute name": "_base_ = '/etc/passwd'",
    "no name": "_base_ = 7",
    "half a character": r"a = '\ud800'",
    "damage": "a = (",
}


@pytest.mark.parametrize("case", DOES)
def test_nothing_runs(case: str, tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("a = 1")
    folder = tmp_path / "configs"
    folder.mkdir()
    (path := folder / "config.py").write_text(DOES[case])
    with refused("config-invalid", "config.py"):
        read_config(path)


@pytest.mark.parametrize("text", ["TRAIN: {LR: .inf}", "? [1, 2]\n: 3", "- 1", "a: [", "7"])
def test_yaml_that_is_no_configuration_is_refused(text: str, tmp_path: Path) -> None:
    (path := tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert caught.value.code in ("config-invalid", "recipe-invalid")
    assert "config.yaml" in str(caught.value)


def test_dates_are_texts(tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "dated.yaml", changed(W32, ("DATE",), date(2026, 11, 30)))
    assert [str(each) for each in convert_config(path).not_supported] == [
        'DATE = "2026-11-30": hrpose does not know this key'
    ]


def test_links_do_not_lead_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("a = 1")
    (folder := tmp_path / "configs").mkdir()
    (folder / "linked.py").symlink_to(tmp_path / "secret.py")
    (path := folder / "config.py").write_text("_base_ = 'linked.py'")
    with refused("config-invalid", "root"):
        read_config(path)
    assert read_config(path, tmp_path) == {"a": 1}


def test_a_scope_is_the_root(config: Path) -> None:
    replaced(config, ("'../../_base_/runtime.py'", "'mmpose::_base_/runtime.py'"))
    assert convert_config(config).recipe.name == "hrnet"


def test_a_key_in_two_bases_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("x = 1")
    (path := tmp_path / "c.py").write_text("_base_ = ['a.py', 'b.py']")
    with refused("config-invalid", "x again"):
        read_config(path)


@pytest.mark.parametrize(
    ("out", "code"), [("w32.yaml", "overwrite-refused"), ("made.py", "option-invalid")]
)
def test_the_configuration_is_kept(out: str, code: str, tmp_path: Path) -> None:
    content = (path := write_yaml(tmp_path / "w32.yaml", W32)).read_bytes()
    ran = CliRunner().invoke(app, ["convert-config", str(path), "--out", str(tmp_path / out)])
    check_refusal(ran, code, out)
    assert path.read_bytes() == content


def test_the_command(config: Path, tmp_path: Path) -> None:
    replaced(config, ("shift_heatmap=True", "shift_heatmap=False"))
    out = tmp_path / "made.yaml"
    ran = CliRunner().invoke(app, ["convert-config", str(config), "--out", str(out), "--json"])
    assert ran.exit_code == 0, ran.output
    summary = json.loads(ran.stdout)
    assert [entry["key"] for entry in summary["not_supported"]] == ["model.test_cfg.shift_heatmap"]
    assert load_recipe(out) == convert_config(config).recipe
    assert "model.test_cfg.shift_heatmap = false" in out.read_text()
    listed = CliRunner().invoke(app, ["convert-config", str(config), "--out", str(out), "--keys"])
    count = sum(len(summary[sort]) for sort in ("mapped", "without_effect", "not_supported"))
    assert len(listed.stdout.splitlines()) == count + 1
    ran = CliRunner().invoke(app, ["convert-config", str(tmp_path / "no.py"), "--out", str(out)])
    check_refusal(ran, "file-unreadable", "no.py")
