"""What the keys of MMPose's configurations mean, of 1.x and of 0.x; its transforms' defaults."""

import math
from collections.abc import Callable
from typing import Any

from hrpose.metadata import IMAGENET_MEAN, IMAGENET_STD
from hrpose.training.config_files import (
    Leaves,
    Rules,
    Unsupported,
    Values,
    as_it_is,
    boxes_in,
    network,
    one_of,
    quarter,
    size,
    weights,
)

_TRAIN, _VAL = "train_dataloader.dataset", "val_dataloader.dataset"
_PIPELINE, _DECODER = f"{_TRAIN}.pipeline", "model.head.decoder"
_CODECS = {"MSRAHeatmap": "gaussian", "UDPHeatmap": "udp"}
# Data sets whose annotations are COCO keypoints JSON.
_COCO_SETS = (
    "CocoDataset", "CocoWholeBodyDataset", "AP10KDataset", "CrowdPoseDataset", "AnimalPoseDataset",
    "OCHumanDataset", "HalpeDataset", "AicDataset",
)  # fmt: skip
# The standard deviation of the normal distribution that is cut at -1 and 1.
_CUT_NORMAL = 0.5396
# What MMPose does where a configuration says nothing.
STARTS: Values = {
    "augmentation": {"scale": 0, "rotation_deg": 0, "flip_probability": 0,
                     "half_body_probability": 0},
    "schedule": {"milestones": []},
    "evaluation": {"flip_test": False},
}  # fmt: skip
# The keys that MMEngine's Runner reads for a training.
RUNNER = {
    "model", "work_dir", "train_dataloader", "val_dataloader", "train_cfg",
    "val_cfg", "auto_scale_lr", "optim_wrapper", "param_scheduler", "val_evaluator",
    "default_hooks", "custom_hooks", "data_preprocessor", "load_from", "resume",
    "launcher", "env_cfg", "log_processor", "log_level", "visualizer", "default_scope",
    "randomness", "experiment_name", "custom_imports",
}  # fmt: skip


def _network(value: Any, leaves: Leaves) -> Any:
    needed = {"model.type": "TopdownPoseEstimator", "model.backbone.type": "HRNet",
              "model.head.type": "HeatmapHead"}  # fmt: skip
    if "model.keypoint_head.type" in leaves:  # 0.x
        needed = {"model.type": "TopDown", "model.backbone.type": "HRNet",
                  "model.keypoint_head.type": "TopdownHeatmapSimpleHead"}  # fmt: skip
    for key, expected in needed.items():
        if leaves.get(key) != expected:
            raise Unsupported(f"no network of hrpose: {key} is {leaves.get(key)!r}"[:100])
    if any(key.startswith("model.neck") for key in leaves) and not _second(leaves):
        raise Unsupported("no network of hrpose: it has a neck")
    version = 2 if _second(leaves) else 1
    return network("model.backbone.extra.stage{}.{}", version)(value, leaves)


def _second(leaves: Leaves) -> bool:
    """Whether it is an HRNetV2, whose head sees all branches, by a neck or itself."""
    heads = ("model.head.input_transform", "model.keypoint_head.input_transform")
    return leaves.get("model.neck.concat") is True or "resize_concat" in map(leaves.get, heads)


def _before_last(leaves: Leaves) -> tuple[Any, ...]:
    """The widths of the head's layers before its last one."""
    widths = leaves["model.backbone.extra.stage4.num_channels"]
    return ([sum(widths)],) if _second(leaves) else (None, [])


def _codec(value: Any, leaves: Leaves) -> str:
    if value not in _CODECS or leaves.get(f"{_DECODER}.heatmap_type", "gaussian") != "gaussian":
        raise Unsupported("no codec of hrpose")
    return "dark" if leaves.get(f"{_DECODER}.unbiased") else _CODECS[value]


def _udp(leaves: Leaves) -> tuple[bool]:
    return (leaves[f"{_DECODER}.type"] == "UDPHeatmap",)


def _same_as(key: str) -> Callable[[Leaves], Any]:
    return lambda leaves: (leaves[key],)


def _scale(value: Any, _: Leaves) -> float:
    low, high = value if isinstance(value, list) else (1 - value, 1 + value)
    if not math.isclose(low + high, 2):
        raise Unsupported("scales are drawn around 1")
    return float(round((high - low) / 2, 6))


def _shift(value: Any, leaves: Leaves) -> float:
    """The same standard deviation for a shift that is always drawn."""
    often = float(leaves[f"{_PIPELINE}.RandomBBoxTransform.shift_prob"])
    return round(float(value) * _CUT_NORMAL * math.sqrt(often), 4)


def _scaled(values: tuple[float, ...]) -> tuple[list[float]]:
    return ([round(255 * value, 3) for value in values],)


def _kernel(leaves: Leaves) -> tuple[int]:
    return (2 * math.ceil(2.5 * leaves[f"{_DECODER}.sigma"]) + 1,)


def _padding(leaves: Leaves) -> tuple[Any]:
    return (leaves.get(f"{_PIPELINE}.GetBBoxCenterScale.padding", 1.25),)


def _folder(value: Any, _: Leaves) -> str:
    return str(value).rstrip("/") or "."


def _mmpose_boxes(value: Any, leaves: Leaves) -> str:
    return boxes_in(value or "", leaves.get(f"{_VAL}.data_root", ""))


def _above_zero(value: Any, _: Leaves) -> Any:
    if value < 1:
        raise Unsupported("expected 1 or more")
    return value


def _cosine(value: Any, leaves: Leaves) -> str:
    at = "param_scheduler.CosineAnnealingLR"
    if value != leaves["train_cfg.max_epochs"] or not leaves.get(f"{at}.by_epoch", True):
        raise Unsupported("a cosine is over the whole training")
    return "cosine"


_STRAIGHT = {name: _same_as(f"{_DECODER}.{name}") for name in
             ("type", "input_size", "heatmap_size", "sigma", "unbiased", "heatmap_type",
              "blur_kernel_size")}  # fmt: skip
_STAGES = ("model.type", "model.backbone.type", "model.backbone.extra.stage?.num_*",
           "model.backbone.extra.stage?.block", "model.backbone.extra.stage?.multiscale_output",
           "model.backbone.extra.upsample.*")  # fmt: skip
_BACKBONE = {
    "model.backbone.type": (("HRNet",), "no network of hrpose"),
    "model.backbone.in_channels": ((3,), "images are RGB"),
    "model.backbone.extra.stage1.num_blocks": (([4],), "no network of hrpose"),
    "model.backbone.extra.stage1.num_channels": (([64],), "no network of hrpose"),
    "model.backbone.extra.stage1.block": (("BOTTLENECK",), "no network of hrpose"),
    "model.backbone.extra.stage[234].block": (("BASIC",), "no network of hrpose"),
    "model.backbone.norm_cfg.type": (("BN", "SyncBN"), "the network has BatchNorm"),
    "model.backbone.norm_eval": ((False,), "training.frozen_norms is close to it"),
    "model.backbone.frozen_stages": ((-1,), "training.freeze_stem is close to it"),
    "model.backbone.init_cfg": ((None,), "set weights=FILE"),
    "model.backbone.init_cfg.type": (("Pretrained",), "set weights=FILE"),
    "model.backbone.extra.upsample.mode": (("bilinear",), "no network of hrpose"),
    "model.backbone.extra.upsample.align_corners": ((False,), "no network of hrpose"),
}
MMPOSE = Rules(
    only={
        "model.type": (("TopdownPoseEstimator",), "no network of hrpose"),
        **_BACKBONE,
        "model.data_preprocessor.type": (("PoseDataPreprocessor",), "normalization by ImageNet's"),
        "model.data_preprocessor.mean": (_scaled(IMAGENET_MEAN), "the mean is ImageNet's"),
        "model.data_preprocessor.std": (_scaled(IMAGENET_STD), "the deviation is ImageNet's"),
        "model.data_preprocessor.bgr_to_rgb": ((True,), "networks of hrpose see RGB"),
        "model.head.type": (("HeatmapHead",), "no network of hrpose"),
        "model.head.deconv_*": ((None, []), "the head is a convolution of size 1"),
        "model.head.conv_out_channels": (_before_last, "no network of hrpose"),
        "model.head.conv_kernel_sizes": ((None, [], [1]), "no network of hrpose"),
        "model.head.input_index": (([0, 1, 2, 3],), "no network of hrpose"),
        "model.neck.type": (("FeatureMapProcessor",), "no network of hrpose"),
        "model.head.loss.use_target_weight": ((True,), "keypoints without a label do not count"),
        "model.head.loss.loss_weight": ((1,), "the loss has the weight 1"),
        f"{_DECODER}.heatmap_size": (quarter(f"{_DECODER}.input_size"), "heatmaps have a quarter"),
        f"{_DECODER}.blur_kernel_size": (_kernel, "the codec blurs as wide as its sigma"),
        "model.test_cfg.flip_mode": (("heatmap",), "heatmaps are averaged"),
        "model.test_cfg.shift_heatmap": (lambda leaves: (not _udp(leaves)[0],), "the codec has it"),
        "*.dataset.type": (_COCO_SETS, "convert the data to COCO keypoints: `hrpose data convert`"),
        "*.dataset.data_mode": (("topdown",), "networks are top-down"),
        f"{_VAL}.test_mode": ((True,), "validation has no augmentation"),
        "*.dataset.metainfo*": ((), "keypoints are named by the annotations and `data.skeleton`"),
        "*.pipeline.TopdownAffine.input_size": (_same_as(f"{_DECODER}.input_size"), "input_wh"),
        "*.pipeline.TopdownAffine.use_udp": (_udp, "the codec has it"),
        f"{_VAL}.pipeline.GetBBoxCenterScale.padding": (_padding, "the padding of training"),
        f"{_PIPELINE}.RandomFlip.direction": (("horizontal",), "images are mirrored at a vertical"),
        f"{_PIPELINE}.RandomHalfBody.min_*er_keypoints": ((3,), "a half has three keypoints"),
        f"{_PIPELINE}.RandomBBoxTransform.scale_prob": ((1,), "the scale is always drawn"),
        f"{_PIPELINE}.GenerateTarget.target_type": (("heatmap",), "targets are heatmaps"),
        **{f"{_PIPELINE}.GenerateTarget.encoder.{name}": (same, "targets are those of the decoder")
           for name, same in _STRAIGHT.items()},
        "*.sampler.type": (("DefaultSampler",), "`data.sampling`"),
        "train_dataloader.sampler.shuffle": ((True,), "persons are shuffled"),
        "train_cfg.by_epoch": ((True,), "trainings are counted in epochs"),
        "train_cfg.type": (("EpochBasedTrainLoop",), "trainings are counted in epochs"),
        "optim_wrapper.optimizer.betas": (([0.9, 0.999],), "betas are 0.9 and 0.999"),
        "optim_wrapper.clip_grad": ((None,), "gradients are not clipped"),
        "param_scheduler.*.begin": ((0,), "schedules are over the whole training"),
        "param_scheduler.LinearLR.by_epoch": ((False,), "the warm-up is counted in steps"),
        "param_scheduler.MultiStepLR.by_epoch": ((True,), "milestones are epochs"),
        "param_scheduler.CosineAnnealingLR.eta_min": ((0,), "a cosine ends at 0"),
        "val_evaluator.[A-Z]*": ((), "`evaluation.metric` is one; see `hrpose evaluate`"),
        "load_from": ((None,), "set weights=FILE"),
        "resume": ((False,), "`hrpose train --resume`"),
    },
    becomes={
        "model.backbone.extra.stage4.num_channels": ("network", _network),
        "model.backbone.init_cfg.checkpoint": ("weights", weights),
        f"{_DECODER}.type": ("codec.name", _codec),
        f"{_DECODER}.sigma": ("codec.sigma", as_it_is),
        f"{_DECODER}.input_size": ("input_wh", size),
        "model.head.loss.type": (
            "loss.name", one_of(KeypointMSELoss="mse", KeypointOHKMMSELoss="ohkm")),
        "model.head.loss.topk": ("loss.top", as_it_is),
        "model.test_cfg.flip_test": ("evaluation.flip_test", as_it_is),
        f"{_TRAIN}.ann_file": ("data.train.annotations", as_it_is),
        f"{_TRAIN}.data_prefix.img": ("data.train.images", _folder),
        f"{_VAL}.ann_file": ("data.val.annotations", as_it_is),
        f"{_VAL}.data_prefix.img": ("data.val.images", _folder),
        f"{_VAL}.bbox_file": ("evaluation.boxes", _mmpose_boxes),
        f"{_PIPELINE}.GetBBoxCenterScale.padding": ("data.padding", as_it_is),
        f"{_PIPELINE}.RandomFlip.prob": ("augmentation.flip_probability", as_it_is),
        f"{_PIPELINE}.RandomHalfBody.prob": ("augmentation.half_body_probability", as_it_is),
        f"{_PIPELINE}.RandomHalfBody.padding": ("augmentation.half_body_padding", as_it_is),
        f"{_PIPELINE}.RandomHalfBody.min_total_keypoints": (
            "augmentation.half_body_min_keypoints", lambda v, _: v - 1),  # "at least", here "more"
        f"{_PIPELINE}.RandomHalfBody.upper_prioritized_prob": (
            "augmentation.half_body_upper_probability", as_it_is),
        f"{_PIPELINE}.RandomBBoxTransform.scale_factor": ("augmentation.scale", _scale),
        f"{_PIPELINE}.RandomBBoxTransform.rotate_factor": (
            "augmentation.rotation_deg", lambda v, _: v / 2),  # there the bound, here half of it
        f"{_PIPELINE}.RandomBBoxTransform.rotate_prob": (
            "augmentation.rotation_probability", as_it_is),
        f"{_PIPELINE}.RandomBBoxTransform.shift_factor": ("augmentation.shift", _shift),
        f"{_PIPELINE}.GenerateTarget.use_dataset_keypoint_weights": (
            "loss.keypoint_weights", as_it_is),
        "train_dataloader.batch_size": (
            "training.batch_size", lambda v, keys: keys.get("auto_scale_lr.base_batch_size", v)),
        "train_dataloader.num_workers": ("training.workers", as_it_is),
        "val_dataloader.batch_size": ("evaluation.batch_size", as_it_is),
        "train_cfg.max_epochs": ("training.epochs", as_it_is),
        "train_cfg.val_interval": ("evaluation.every_epochs", as_it_is),
        "auto_scale_lr.base_batch_size": ("optimizer.base_batch_size", as_it_is),
        "optim_wrapper.type": (
            "training.precision", one_of(OptimWrapper="auto", AmpOptimWrapper="fp16")),
        "optim_wrapper.optimizer.type": ("optimizer.name", one_of(Adam="adam", AdamW="adamw")),
        "optim_wrapper.optimizer.lr": ("optimizer.lr", as_it_is),
        "optim_wrapper.optimizer.weight_decay": ("optimizer.weight_decay", as_it_is),
        "param_scheduler.LinearLR.end": ("schedule.warmup_steps", as_it_is),
        "param_scheduler.MultiStepLR.milestones": ("schedule.milestones", as_it_is),
        "param_scheduler.MultiStepLR.gamma": ("schedule.gamma", as_it_is),
        "param_scheduler.CosineAnnealingLR.T_max": ("schedule.name", _cosine),
        "val_evaluator.type": (
            "evaluation.metric", one_of(CocoMetric="AP", MpiiPCKAccuracy="PCKh", PCKAccuracy="PCK",
                                         NME="NME", EPE="EPE")),
        "custom_hooks.EarlyStoppingHook.patience": ("training.early_stopping", _above_zero),
        "custom_hooks.EMAHook.momentum": ("training.ema_decay", lambda v, _: 1 - v),
        "randomness.seed": ("training.seed", as_it_is),
    },
    parts={
        "network": (*_STAGES, "model.head.type", "model.head.in_channels", "model.head.input_*",
                    "model.head.conv_*", "model.neck.type", "model.neck.concat"),
        "codec.name": (f"{_DECODER}.unbiased", f"{_DECODER}.heatmap_type",
                       "model.test_cfg.shift_heatmap"),
        "augmentation.shift": (f"{_PIPELINE}.RandomBBoxTransform.shift_prob",),
    },
    nothing={
        "the annotations name the keypoints": ("model.head.out_channels",),
        "it has its defaults": (f"{_PIPELINE}.GetBBoxCenterScale", f"{_PIPELINE}.Random*Body",
                                f"{_PIPELINE}.RandomBBoxTransform", f"{_PIPELINE}.RandomFlip",
                                f"{_VAL}.pipeline.GetBBoxCenterScale"),
        "hrpose does the same": ("*.pipeline.LoadImage*", "*.pipeline.PackPoseInputs*",
                                 "model.train_cfg*", "*.norm_cfg.requires_grad"),
        "the warm-up begins near 0": ("param_scheduler.LinearLR.start_factor",),
        "schedules end with the training": ("param_scheduler.*.end",
                                            "param_scheduler.CosineAnnealingLR.by_epoch"),
        "`hrpose train --data`": ("*.dataset.data_root",),
        "`hrpose data convert mpii` adds head boxes": (f"{_VAL}.headbox_file",),
        "the annotations are those of the data": ("val_evaluator.ann_file",),
        "`optimizer.base_batch_size` does it": ("auto_scale_lr.enable",),
        "`evaluation.metric` chooses the best": ("default_hooks.checkpoint.save_best",
                                                 "default_hooks.checkpoint.rule"),
        "`hrpose train --out`": ("work_dir",),
        "hrpose has its own": (
               "default_hooks.*", "custom_hooks.SyncBuffersHook*", "env_cfg*", "visualizer*",
               "log_processor*", "log_level", "default_scope", "launcher", "experiment_name",
               "val_cfg*", "*.persistent_workers", "*.pin_memory",
               "val_dataloader.num_workers", "val_dataloader.drop_last", "val_dataloader.sampler.*",
               "train_dataloader.drop_last", "model.backbone.with_cp"),
    },
    defaults={
        f"{_PIPELINE}.{key}": value
        for key, value in {
            "GetBBoxCenterScale.padding": 1.25, "RandomFlip.prob": 0.5, "RandomHalfBody.prob": 0.3,
            "RandomHalfBody.padding": 1.5, "RandomHalfBody.min_total_keypoints": 9,
            "RandomHalfBody.upper_prioritized_prob": 0.7,
            "RandomBBoxTransform.scale_factor": [0.5, 1.5],
            "RandomBBoxTransform.rotate_factor": 80.0, "RandomBBoxTransform.rotate_prob": 0.6,
            "RandomBBoxTransform.shift_factor": 0.16, "RandomBBoxTransform.shift_prob": 0.3,
        }.items()
    },
)  # fmt: skip

# MMPose 0.x: one data set for each split, whose settings are in `data_cfg`.

_OLD, _OLD_VAL = "data.train", "data.val"
_STEPS, _TARGET = f"{_OLD}.pipeline", f"{_OLD}.pipeline.TopDownGenerateTarget"
_ZOOM, _HALF = f"{_STEPS}.TopDownGetRandomScaleRotation", f"{_STEPS}.TopDownHalfBodyTransform"
_UNIFORM = 1 / math.sqrt(3)
RUNNER_0 = {
    "model", "data", "optimizer", "optimizer_config", "lr_config", "total_epochs", "evaluation",
    "checkpoint_config", "log_config", "log_level", "load_from", "resume_from", "dist_params",
    "workflow", "work_dir", "custom_hooks", "fp16", "cudnn_benchmark", "opencv_num_threads",
    "mp_start_method", "seed",
}  # fmt: skip


def _codec_0(sigma: Any, leaves: Leaves) -> dict[str, Any]:
    if leaves.get(f"{_TARGET}.target_type", "GaussianHeatmap") != "GaussianHeatmap":
        raise Unsupported("no codec of hrpose")
    unbiased = leaves.get(f"{_TARGET}.unbiased_encoding", False)
    udp = leaves.get(f"{_TARGET}.encoding", "MSRA") == "UDP"
    return {"name": "udp" if udp else "dark" if unbiased else "gaussian", "sigma": sigma}


def _udp_0(leaves: Leaves) -> tuple[bool]:
    return (leaves.get(f"{_TARGET}.encoding", "MSRA") == "UDP",)


def _processed_0(leaves: Leaves) -> tuple[str]:
    return ("unbiased" if leaves.get(f"{_TARGET}.unbiased_encoding") else "default",)


def _kernel_0(leaves: Leaves) -> tuple[int]:
    return (2 * math.ceil(2.5 * leaves[f"{_TARGET}.sigma"]) + 1,)


def _layers_0(leaves: Leaves) -> tuple[int]:
    return (1 if _second(leaves) else 0,)


def _boxes_0(labeled: Any, leaves: Leaves) -> str:
    return "ground-truth" if labeled else boxes_in(leaves[f"{_OLD_VAL}.data_cfg.bbox_file"], "")


def _shift_0(value: Any, leaves: Leaves) -> float:
    often = float(leaves[f"{_STEPS}.TopDownRandomShiftBboxCenter.prob"])
    return round(float(value) * _UNIFORM * math.sqrt(often), 4)


MMPOSE_0 = Rules(
    only={
        **_BACKBONE,
        "model.type": (("TopDown",), "no network of hrpose"),
        "model.keypoint_head.type": (("TopdownHeatmapSimpleHead",), "no network of hrpose"),
        "model.keypoint_head.num_deconv_layers": ((0,), "no network of hrpose"),
        "model.keypoint_head.extra.final_conv_kernel": ((1,), "the head is one of size 1"),
        "model.keypoint_head.loss_keypoint.use_target_weight": ((True,), "unlabeled do not count"),
        "model.test_cfg.shift_heatmap": (lambda keys: (not _udp_0(keys)[0],), "the codec has it"),
        "model.test_cfg.use_udp": (_udp_0, "the codec has it"),
        "model.test_cfg.post_process": (_processed_0, "the codec has it"),
        "model.test_cfg.modulate_kernel": (_kernel_0, "the codec blurs as wide as its sigma"),
        "model.keypoint_head.extra.num_conv_layers": (_layers_0, "no network of hrpose"),
        "model.keypoint_head.extra.num_conv_kernels": (([], [1]), "no network of hrpose"),
        "model.keypoint_head.extra.[!fn]*": ((), "no network of hrpose"),
        "model.keypoint_head.input_transform": (("resize_concat",), "no network of hrpose"),
        "model.keypoint_head.in_index": (([0, 1, 2, 3],), "no network of hrpose"),
        "*.TopDownAffine.use_udp": (_udp_0, "the codec has it"),
        "*.NormalizeTensor.mean": ((list(IMAGENET_MEAN),), "the mean is ImageNet's"),
        "*.NormalizeTensor.std": ((list(IMAGENET_STD),), "the deviation is ImageNet's"),
        "data.*.data_cfg.heatmap_size": (quarter(f"{_OLD}.data_cfg.image_size"), "a quarter"),
        "data.*.data_cfg.oks_thr": ((0.9,), "OKS-NMS is at 0.9"),
        "data.*.data_cfg.vis_thr": ((0.2,), "keypoints above 0.2 count for the score of a pose"),
        "data.*.data_cfg.soft_nms": ((False,), "validation has hard OKS-NMS"),
        "data.train.type": (("TopDownCocoDataset", "TopDownCocoWholeBodyDataset",
                             "TopDownCrowdPoseDataset", "AnimalAP10KDataset"),
                            "convert the data to COCO keypoints: `hrpose data convert`"),
        "optimizer_config.grad_clip": ((None,), "gradients are not clipped"),
        "lr_config.policy": (("step",), "schedules are steps or a cosine"),
        "lr_config.warmup": (("linear", None), "the warm-up is linear"),
        "load_from": ((None,), "set weights=FILE"),
        "resume_from": ((None,), "`hrpose train --resume`"),
    },
    becomes={
        "model.backbone.extra.stage4.num_channels": ("network", _network),
        "model.pretrained": ("weights", weights),
        "model.keypoint_head.loss_keypoint.type": (
            "loss.name", one_of(JointsMSELoss="mse", JointsOHKMMSELoss="ohkm")),
        "model.test_cfg.flip_test": ("evaluation.flip_test", as_it_is),
        f"{_TARGET}.sigma": ("codec", _codec_0),
        f"{_OLD}.data_cfg.image_size": ("input_wh", size),
        f"{_OLD}.ann_file": ("data.train.annotations", as_it_is),
        f"{_OLD}.img_prefix": ("data.train.images", _folder),
        f"{_OLD_VAL}.ann_file": ("data.val.annotations", as_it_is),
        f"{_OLD_VAL}.img_prefix": ("data.val.images", _folder),
        f"{_OLD_VAL}.data_cfg.use_gt_bbox": ("evaluation.boxes", _boxes_0),
        f"{_OLD_VAL}.data_cfg.det_bbox_thr": ("evaluation.box_threshold", lambda v, keys: (
            0.0 if keys[f"{_OLD_VAL}.data_cfg.use_gt_bbox"] else v)),
        f"{_STEPS}.TopDownGetBboxCenterScale.padding": ("data.padding", as_it_is),
        f"{_STEPS}.TopDownRandomShiftBboxCenter.shift_factor": ("augmentation.shift", _shift_0),
        f"{_STEPS}.TopDownRandomFlip.flip_prob": ("augmentation.flip_probability", as_it_is),
        f"{_HALF}.prob_half_body": ("augmentation.half_body_probability", as_it_is),
        f"{_HALF}.num_joints_half_body": ("augmentation.half_body_min_keypoints", as_it_is),
        f"{_ZOOM}.scale_factor": ("augmentation.scale", as_it_is),
        f"{_ZOOM}.rot_factor": ("augmentation.rotation_deg", as_it_is),
        f"{_ZOOM}.rot_prob": ("augmentation.rotation_probability", as_it_is),
        "data.samples_per_gpu": ("training.batch_size", as_it_is),
        "data.workers_per_gpu": ("training.workers", as_it_is),
        "data.val_dataloader.samples_per_gpu": ("evaluation.batch_size", as_it_is),
        "optimizer.type": ("optimizer.name", one_of(Adam="adam", AdamW="adamw")),
        "optimizer.lr": ("optimizer.lr", as_it_is),
        "optimizer.weight_decay": ("optimizer.weight_decay", as_it_is),
        "lr_config.step": ("schedule.milestones", as_it_is),
        "lr_config.gamma": ("schedule.gamma", as_it_is),
        "lr_config.warmup_iters": ("schedule.warmup_steps", as_it_is),
        "total_epochs": ("training.epochs", as_it_is),
        "evaluation.interval": ("evaluation.every_epochs", as_it_is),
        "evaluation.metric": ("evaluation.metric", one_of(mAP="AP", PCKh="PCKh", PCK="PCK")),
        "seed": ("training.seed", as_it_is),
    },
    parts={
        "network": (*_STAGES, "model.keypoint_head.type", "model.keypoint_head.in*",
                    "model.keypoint_head.num_deconv_layers", "model.keypoint_head.extra.*"),
        "codec.name": (f"{_TARGET}.unbiased_encoding", f"{_TARGET}.encoding",
                       f"{_TARGET}.target_type", "model.test_cfg.shift_heatmap",
                       "model.test_cfg.use_udp", "model.test_cfg.post_process",
                       "model.test_cfg.modulate_kernel", "model.test_cfg.target_type"),
        "augmentation.shift": (f"{_STEPS}.TopDownRandomShiftBboxCenter.prob",),
        "evaluation.boxes": (f"{_OLD_VAL}.data_cfg.bbox_file",),
    },
    nothing={
        "the annotations name the keypoints": (
            "model.keypoint_head.out_channels", "data.*.data_cfg.num_*", "data.*.dataset_info*",
            "data.*.data_cfg.*_channel"),
        "hrpose does the same": ("*.LoadImageFromFile*", "*.ToTensor*", "*.TopDownAffine",
                                 "*.Collect.*", "model.train_cfg"),
        "it has its defaults": (f"{_ZOOM}",),
        "of the data set that is trained on": ("data.val.type",),
        "not of a training on the labeled boxes": ("data.train.data_cfg.*",),
        "validation has no augmentation": ("data.val.pipeline.TopDownGetBboxCenterScale*",),
        "the size is that of training": ("data.val.data_cfg.image_size",),
        "OKS-NMS alone is used": ("data.*.data_cfg.nms_thr",),
        "`evaluation.metric` chooses it": ("evaluation.save_best", "evaluation.key_indicator"),
        "the warm-up begins near 0": ("lr_config.warmup_ratio",),
        "`hrpose evaluate` tests": ("data.test.*", "data.test_dataloader.*"),
        "`hrpose train --out`": ("work_dir",),
        "hrpose has its own": ("checkpoint_config*", "log_config*", "log_level", "dist_params*",
                               "workflow", "cudnn_benchmark", "opencv_num_threads",
                               "mp_start_method"),
    },
    defaults={f"{_ZOOM}.scale_factor": 0.5, f"{_ZOOM}.rot_factor": 40, f"{_ZOOM}.rot_prob": 0.6},
)  # fmt: skip
