"""`hrpose train`: a recipe and data in, checkpoints, logs and weights out."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from hrpose import weights
from hrpose.errors import UserError
from hrpose.network import checkpoint, convert
from hrpose.network.convert import Weights
from hrpose.network.hrnet import HRNet
from hrpose.passport import Passport
from hrpose.skeleton import Skeleton
from hrpose.training.checkpoint_io import WholeFiles
from hrpose.training.datamodule import PoseData
from hrpose.training.doctor import Case, Finding, examine
from hrpose.training.module import PoseModule
from hrpose.training.pictures import DebugPictures
from hrpose.training.recipe import Recipe

Say = Callable[[Finding], None]


def log(finding: Finding) -> None:
    """Say a finding through the log of `hrpose`, which shows warnings unless told otherwise."""
    level = logging.INFO if finding.level == "note" else logging.WARNING
    logging.getLogger("hrpose").log(level, finding.text)


def check(recipe: Recipe, data: Path, say: Say = log) -> tuple[PoseData, Weights | None]:
    """Everything that can be wrong before a training: the data, the weights, the recipe.

    `say` is told what the recipe doctor finds. Raises UserError for what keeps a training from
    starting; writes nothing. Returns the data and the weights, read.
    """
    start = read_start(recipe)
    datamodule = PoseData(recipe, data)
    findings = examine(Case(recipe, datamodule.train_table, datamodule.val_table, start))
    errors = [finding for finding in findings if finding.level == "error"]
    for finding in findings:
        if finding not in errors:
            say(finding)
    if errors:
        raise UserError("\n".join(finding.text for finding in errors))
    return datamodule, start


def train(recipe: Recipe, data: Path, out: Path, resume: bool = False, say: Say = log) -> Path:
    """Train by `recipe` on the data below `data`; everything is written below `out`.

    First comes `check`, which tells `say` what it finds; a resumed training was checked before.
    `out/checkpoints` has the last and the best checkpoint (by AP; by PCKh where people have head
    boxes), `out` the logs and, at the end, the best weights with their passport, whose path is
    returned. `resume` goes on from the last checkpoint in `out`. Raises UserError for bad data, and
    where `out` holds another training.
    """
    last = out / "checkpoints" / "last.ckpt"
    if last.exists() and not resume:
        raise UserError(f"{out}: holds a training already; add --resume or choose another --out")
    if last.exists():
        datamodule, start = PoseData(recipe, data), None
    else:
        datamodule, start = check(recipe, data, say)
    passport = Passport(
        name=recipe.name,
        network=recipe.network,
        input_wh=recipe.input_wh,
        skeleton=datamodule.train_table.skeleton,
        codec=recipe.codec.codec(),
        padding=recipe.data.padding,
        training_data=recipe.data.description,
        licence=recipe.data.licence,
    )
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no tips about products
    L.seed_everything(recipe.training.seed, verbose=False)
    torch.set_flush_denormal(True)  # Faint activations would slow a CPU down several times.
    network = build_network(recipe, passport.skeleton, start)
    pictures = DebugPictures(out / "pictures", passport, recipe.training.debug_pictures_every)
    module = PoseModule(network, recipe, passport, pictures)
    best = ModelCheckpoint(
        out / "checkpoints", filename="best", monitor=f"val/{datamodule.validation.figure}",
        mode="max", save_last=True, enable_version_counter=False,
    )  # fmt: skip
    callbacks: list[Callback] = [best]
    if recipe.training.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=recipe.training.ema_decay))
    trainer = L.Trainer(
        default_root_dir=out,
        max_epochs=recipe.training.epochs,
        precision=_precision(recipe.training.precision),
        callbacks=callbacks,
        plugins=[WholeFiles()],
        logger=[
            # Each start has its own version, for the logger would empty a folder it finds.
            CSVLogger(out, name="csv"),
            TensorBoardLogger(out, name="", version="tensorboard"),
        ],
        check_val_every_n_epoch=recipe.evaluation.every_epochs,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings():
        # Two cores need no more workers; the recipe says how many there are.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")  # when resuming
        # Lightning's own use of PyTorch, which is not ours to mend.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer.fit(
            module, datamodule=datamodule, ckpt_path=last if resume and last.exists() else None
        )
    trained, _ = checkpoint.load(Path(best.best_model_path or best.last_model_path))
    written = out / f"{recipe.name}.safetensors"
    checkpoint.save(written, trained, passport)
    return written


def read_start(recipe: Recipe) -> Weights | None:
    """The weights that the recipe starts from. Raises UserError where they cannot be it."""
    if recipe.weights is None:
        return None
    try:
        path = weights.find(recipe.weights)
    except UserError as error:
        raise UserError(f"weights: {error}; without any: --set weights=null") from error
    start = convert.read(path)
    if start.network != recipe.network:
        raise UserError(
            f"{path}: does not fit the network {recipe.network} of the recipe, it is a "
            f"{start.network}"
        )
    return start


def build_network(recipe: Recipe, skeleton: Skeleton, start: Weights | None) -> HRNet:
    """The recipe's network, fresh or with the weights it starts from."""
    if start is None:
        network = HRNet.from_name(recipe.network, len(skeleton))
    else:
        network = start.build(skeleton)
    if recipe.training.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.training.compile:
        network.compile()
    return network


def _precision(choice: str) -> Any:
    """Lightning's name for a recipe's precision; `auto` is bfloat16 where the device has it."""
    if choice == "auto":
        has_bf16 = (
            torch.cuda.is_bf16_supported()
            if torch.cuda.is_available()
            else torch.cpu._is_avx512_bf16_supported()
        )
        choice = "bf16" if has_bf16 else "fp16" if torch.cuda.is_available() else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[choice]
