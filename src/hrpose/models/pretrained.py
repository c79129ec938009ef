"""Networks with published weights, as torchvision, PyTorch Hub and the Hugging Face Hub have them.

`hrnet_w32` and its like build a network of the table; `hubconf.py` offers them too. `HubHRNet` has
`from_pretrained`, `save_pretrained` and `push_to_hub` of `PyTorchModelHubMixin`, where
huggingface_hub is installed. A repository holds `model.safetensors`, with hrpose's metadata in it
where there are any, and `config.json`: what these methods write, `hrpose predict --weights
hf:owner/name` reads where there are metadata, and what `hrpose weights push` writes, they read.
"""

from pathlib import Path
from typing import Any, cast

import safetensors.torch

from hrpose.errors import UserError, missing
from hrpose.io import write_atomically
from hrpose.metadata import write_with_metadata
from hrpose.models import convert
from hrpose.models.build import LiteHRNet, Network, build
from hrpose.models.convert import Weights
from hrpose.models.hrnet import HRNet
from hrpose.models.networks import NETWORKS, HRNetSpec
from hrpose.models.onnx_pose import MAX_KEYPOINTS
from hrpose.weights.download import published
from hrpose.weights.hub import FILES, HubName, fetch, model_card
from hrpose.weights.registry import find_start, lookup, not_here

try:
    from huggingface_hub import ModelCard, PyTorchModelHubMixin
except ModuleNotFoundError as error:
    _NEEDED = missing("HubHRNet", error, "hrpose[hub]")

    class PyTorchModelHubMixin:  # type: ignore[no-redef]
        """Stands for that of huggingface_hub, and says that it is needed."""

        def __init_subclass__(cls, **_options: Any) -> None:
            super().__init_subclass__()

        def __new__(cls, *_arguments: Any, **_options: Any) -> Any:
            raise _NEEDED

        @classmethod
        def from_pretrained(cls, *_arguments: Any, **_options: Any) -> Any:
            raise _NEEDED


# What `find` takes; None is fresh weights.
Start = str | Path | None


def hrnet_w32(
    weights: Start = None, *, num_keypoints: int | None = None, download: bool = False
) -> HRNet:
    """HRNet-W32 (28.5 million parameters) for PyTorch.

    `weights` are a file or a name of `hrpose weights list`, also the publishers' own names and
    `hf:owner/name`; by default they are fresh. With `download`, released weights that are not on
    this machine are downloaded. `num_keypoints` is the number of heatmaps, by default that of the
    weights, else 17; for another number than theirs the last layer is fresh. `network.metadata`
    says how crops are made for these weights and heatmaps decoded.

    Like all modules of PyTorch it is in training mode; `eval()` is for predictions. Raises
    UserError where the weights are not here, or those of another network.
    """
    return cast(HRNet, _built("w32", weights, num_keypoints, download))


def hrnet_w48(
    weights: Start = None, *, num_keypoints: int | None = None, download: bool = False
) -> HRNet:
    """As `hrnet_w32`, HRNet-W48 (63.6 million parameters).

    `weights`, `num_keypoints` and `download` are those of `hrnet_w32`.
    """
    return cast(HRNet, _built("w48", weights, num_keypoints, download))


def hrnet_w32_small(
    weights: Start = None, *, num_keypoints: int | None = None, download: bool = False
) -> HRNet:
    """As `hrnet_w32`, the network of the default weights; "w32-small" are these.

    `weights`, `num_keypoints` and `download` are those of `hrnet_w32`.
    """
    return cast(HRNet, _built("w32-small", weights, num_keypoints, download))


def hrnet_w16_small(
    weights: Start = None, *, num_keypoints: int | None = None, download: bool = False
) -> HRNet:
    """As `hrnet_w32`, the network of the fast weights; "w16-small" are these.

    `weights`, `num_keypoints` and `download` are those of `hrnet_w32`.
    """
    return cast(HRNet, _built("w16-small", weights, num_keypoints, download))


def hrnetv2_w18(
    weights: Start = None, *, num_keypoints: int | None = None, download: bool = False
) -> HRNet:
    """As `hrnet_w32`, HRNetV2-W18, which has published weights of hands and faces.

    `weights`, `num_keypoints` and `download` are those of `hrnet_w32`.
    """
    return cast(HRNet, _built("hrnetv2-w18", weights, num_keypoints, download))


def litehrnet_18(
    weights: Start = None, *, num_keypoints: int | None = None, download: bool = False
) -> LiteHRNet:
    """As `hrnet_w32`, Lite-HRNet-18.

    `weights`, `num_keypoints` and `download` are those of `hrnet_w32`.
    """
    return cast(LiteHRNet, _built("litehrnet-18", weights, num_keypoints, download))


def litehrnet_30(
    weights: Start = None, *, num_keypoints: int | None = None, download: bool = False
) -> LiteHRNet:
    """As `hrnet_w32`, Lite-HRNet-30.

    `weights`, `num_keypoints` and `download` are those of `hrnet_w32`.
    """
    return cast(LiteHRNet, _built("litehrnet-30", weights, num_keypoints, download))


def _built(name: str, weights: Start, num_keypoints: int | None, download: bool) -> Network:
    _check_count(num_keypoints)
    if weights is None:
        return build(name, num_keypoints or 17)
    absent = not_here(weights) if download else None
    read = convert.read(find_start(weights) if absent is None else published(absent))
    network = build(name, num_keypoints or read.num_keypoints or 17)
    try:
        load_weights(network, read)
    except UserError as error:
        raise UserError(f"{weights}: {error}", code=error.code) from error
    row = lookup(str(weights))
    if row is not None and read.num_keypoints == network.num_keypoints:
        network.metadata = network.metadata or row.metadata
    return network


def _check_count(num_keypoints: object) -> None:
    """Raises UserError for what is no number of keypoints; None is that of the weights."""
    whole = isinstance(num_keypoints, int) and not isinstance(num_keypoints, bool)
    if num_keypoints is not None and not (whole and 1 <= cast(int, num_keypoints) <= MAX_KEYPOINTS):
        raise UserError(
            f"num_keypoints: expected a whole number from 1 to {MAX_KEYPOINTS}, found "
            f"{num_keypoints!r}",
            code="option-invalid",
        )


def load_weights(network: Network, weights: Weights) -> None:
    """Fill a network with weights; a head for another number of keypoints stays as it is.

    Raises UserError where they are of another network.
    """
    if weights.network != network.spec.name:
        raise UserError(
            f"expected weights of the network {network.spec.name}, found {weights.network}",
            code="weights-unsuitable",
        )
    state = weights.tensors()
    if weights.num_keypoints != network.num_keypoints:
        state = {key: value for key, value in state.items() if not key.startswith("final_layer.")}
    network.load_state_dict({**network.state_dict(), **state})
    if weights.num_keypoints == network.num_keypoints:
        network.metadata = weights.metadata


# The file to train on; ONNX is read where there is no other.
_FILE, *_ = _READ = FILES[::-1]


class HubHRNet(HRNet, PyTorchModelHubMixin, library_name="hrpose"):
    """As `HRNet`, the one of this name, with `PyTorchModelHubMixin`; it has fresh weights.

    `num_keypoints` is the number of heatmaps. Raises ValueError, naming the networks that exist,
    where `network` is none of them. The `metadata` are saved with the weights.
    """

    def __init__(self, network: str = "w32", num_keypoints: int = 17) -> None:
        spec = NETWORKS.get(network)
        if not isinstance(spec, HRNetSpec):
            known = [name for name, each in NETWORKS.items() if isinstance(each, HRNetSpec)]
            raise ValueError(f"network: expected one of {', '.join(known)}, found '{network}'")
        super().__init__(spec, num_keypoints)

    @classmethod
    def of(cls, network: HRNet) -> "HubHRNet":
        """The same network with the methods of this class; its weights are shared, not copied."""
        made = cls(network.spec.name, network.num_keypoints)
        made.load_state_dict(network.state_dict(keep_vars=True), assign=True)
        made.metadata = network.metadata
        return made.train(network.training)

    def _save_pretrained(self, save_directory: Path) -> None:
        state = {key: value.contiguous() for key, value in self.state_dict().items()}
        content = safetensors.torch.save(state, {"format": "pt"})
        write_with_metadata(save_directory / _FILE, content, self.metadata)
        if self.metadata is not None:
            write_atomically(save_directory / "metadata.json", self.metadata.to_json())

    def generate_model_card(self, repo_id: str = "OWNER/NAME", **options: Any) -> "ModelCard":
        """The card of hrpose for the repository `repo_id`, where there are metadata.

        Without them it is that of the Hub's library, whose `options` these are.
        """
        if self.metadata is None:
            return super().generate_model_card(**options)
        return ModelCard(model_card(self.metadata, repo_id, (_FILE,)))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload to the repository `repo_id`, which is created where there is none.

        `options` are those of the mixin. Returns the address of the commit.
        """
        options.setdefault("model_card_kwargs", {"repo_id": repo_id})
        return str(super().push_to_hub(repo_id, **options))

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None = None,
        network: str | None = None,
        num_keypoints: int | None = None,
        map_location: str = "cpu",
        **options: Any,
    ) -> "HubHRNet":
        """The network of a repository or folder, in evaluation mode.

        What it is follows from its weights where there is no `config.json`. For other
        `num_keypoints` than theirs its last layer is fresh.
        """
        folder = Path(model_id)
        if folder.is_dir():
            file = next((folder / name for name in _READ if (folder / name).is_file()), None)
            if file is None:
                raise UserError(
                    f"{model_id}: has no {' and no '.join(_READ)}; expected the folder of "
                    "`save_pretrained`",
                    code="weights-unknown",
                )
        else:
            file = fetch(HubName(model_id, revision), _READ, **options)
        _check_count(num_keypoints)
        weights = convert.read(file)
        try:
            made = cls(network or weights.network, num_keypoints or weights.num_keypoints or 17)
            load_weights(made, weights)
        except ValueError as error:
            raise UserError(f"{model_id}: {error}", code="weights-unsuitable") from error
        return made.to(map_location).eval()
