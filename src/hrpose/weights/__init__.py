"""Weights by name: those inside the package, and released ones in the user's cache."""

from importlib import resources
from pathlib import Path

from hrpose.errors import UserError

EMBEDDED = ("w16-small",)


def find(name_or_file: str | Path) -> Path:
    """The file of weights given by name or as a file. Raises UserError where there is none.

    Names are those inside the package, those of `hrpose weights list`, and `hf:owner/name@revision`
    for the Hugging Face Hub, whose files are fetched where they are not there yet.
    """
    name = str(name_or_file)
    if name in EMBEDDED:
        return Path(str(resources.files("hrpose.weights") / f"{name}.onnx"))
    path = Path(name_or_file)
    if path.is_file():
        return path
    if name.startswith("hf:"):
        from hrpose.weights.hub import HubName, fetch

        return fetch(HubName.parse(name))
    # Here, because the table is not needed for what is in the package.
    from hrpose.weights.download import usable_file
    from hrpose.weights.registry import RELEASED

    if name not in RELEASED:
        raise UserError(
            f"{name}: no such weights; expected a file (.onnx, .safetensors, .ckpt), "
            f"{', '.join(EMBEDDED)}, a name of `hrpose weights list`, or hf:owner/name"
        )
    usable = usable_file(RELEASED[name])
    if not usable.is_file():
        raise UserError(f"{name}: not there yet; `hrpose weights download {name}` fetches it")
    return usable
