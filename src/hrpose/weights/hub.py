"""Weights on the Hugging Face Hub, by names such as `hf:owner/name@revision`.

The cache (HF_HOME), the token (HF_TOKEN) and the offline mode (HF_HUB_OFFLINE) are those of
huggingface_hub.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrpose.errors import UserError, missing
from hrpose.io import MAX_MODEL_BYTES
from hrpose.metadata import Metadata, check_weights, metadata_of

if TYPE_CHECKING:
    from huggingface_hub import DryRunFileInfo, HfApi


PREFIX = "hf:"
# The weights in a repository, those that need no PyTorch first. Neither form can hold code.
FILES = ("model.onnx", "model.safetensors")
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository, and a branch, tag or commit of it, by default the main branch."""

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, name: str) -> "HubName":
        """Read `hf:owner/name` or `hf:owner/name@revision`. Raises UserError for anything else."""
        # A name that was a path on Windows has backslashes.
        found = _NAME.fullmatch(name.removeprefix(PREFIX).replace("\\", "/"))
        if found is None or ".." in name:
            raise UserError(
                f"{name}: expected hf:owner/name or hf:owner/name@revision", code="weights-unknown"
            )
        return cls(found["repo"], found["revision"])

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def fetch(name: HubName, files: Sequence[str] = FILES, **options: Any) -> Path:
    """The repository's weights in huggingface_hub's cache, downloaded if they are not in it.

    It is the first of these `files` that there is; `options` are those of `hf_hub_download`. A
    revision that is a whole commit hash is never requested twice. Raises UserError where there is
    no such repository, revision or file, where the file is too large, and where the Hub is needed
    and cannot be reached.
    """
    api, errors = _api()
    with _explained(name):
        for file in files:
            request = {"repo_id": name.repo, "filename": file, "revision": name.revision, **options}
            try:
                _bound(name, file, api.hf_hub_download(dry_run=True, **request))
                return Path(api.hf_hub_download(**request))
            except errors.LocalEntryNotFoundError:
                # The Hub cannot be reached, but the other file may be in the cache.
                if file == files[-1]:
                    raise
            except errors.EntryNotFoundError:
                continue
    raise UserError(
        f"{name}: has no {' and no '.join(files)}; expected weights of hrpose",
        code="weights-unknown",
    )


def _bound(name: HubName, file: str, about: "DryRunFileInfo") -> None:
    size = about.file_size or 0
    if about.will_download and size > MAX_MODEL_BYTES:
        raise UserError(
            f"{name}: {file}: expected at most {MAX_MODEL_BYTES / 1e6:.0f} MB, found "
            f"{size / 1e6:.0f} MB; nothing was downloaded",
            code="file-too-large",
        )


def push(files: Sequence[Path], name: HubName, *, private: bool = True) -> HubName:
    """Upload weights, their metadata and a model card to a repository, as one commit.

    `files` are one .onnx, one .safetensors, or both of the same weights. The repository is created
    if there is none, by default a `private` one. Returns the name with the commit, which always
    gives these weights. Raises UserError where the files are not weights of hrpose, and where the
    Hub refuses.
    """
    metadata = _common_metadata(files)
    contents: dict[str, str | bytes] = {f"model{file.suffix}": str(file) for file in files}
    contents["metadata.json"] = metadata.to_json().encode()
    contents["README.md"] = model_card(metadata, name.repo, tuple(contents)[: len(files)]).encode()
    api, _ = _api()
    from huggingface_hub import CommitOperationAdd

    with _explained(name):
        api.create_repo(name.repo, private=private, exist_ok=True)
        done = api.create_commit(
            name.repo,
            [CommitOperationAdd(path, content) for path, content in contents.items()],
            commit_message=f"Weights {metadata.name or name.repo}, by hrpose",
            revision=name.revision,
        )
    return HubName(name.repo, done.oid)


def _common_metadata(files: Sequence[Path]) -> Metadata:
    kinds = [file.suffix for file in files]
    if not files or len(set(kinds)) != len(kinds) or not {".onnx", ".safetensors"} >= set(kinds):
        found = ", ".join(map(str, files)) or "none"
        raise UserError(
            f"expected an .onnx file, a .safetensors file or one of each, found {found}; "
            "`hrpose export` and `hrpose train` write them",
            code="option-invalid",
        )
    for file in files:
        check_weights(file)
    metadata = [metadata_of(file, Metadata) for file in files]
    if metadata[0] != metadata[-1]:
        raise UserError(
            f"{files[0]} and {files[-1]}: are not the same weights; push them separately",
            code="weights-unsuitable",
        )
    return metadata[0]


def _api() -> tuple["HfApi", Any]:
    try:
        from huggingface_hub import HfApi, errors
    except ModuleNotFoundError as error:
        raise missing(f"{PREFIX}...", error, "hrpose[hub]") from error
    return HfApi(library_name="hrpose"), errors


@contextmanager
def _explained(name: HubName) -> Iterator[None]:
    """Errors of the Hub as UserError."""
    from huggingface_hub import errors

    try:
        yield
    except UserError:
        raise
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name}: its owner must grant access; request it on its page, and set HF_TOKEN",
            code="access-denied",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: no such repository, or a private one; for those set HF_TOKEN",
            code="weights-unknown",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name}: no such branch, tag or commit", code="weights-unknown") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{name}: not in the cache, and the Hub cannot be reached; check the connection "
            "(HF_HUB_OFFLINE=1 turns it off) and try again",
            code="download-failed",
        ) from error
    except Exception as error:  # Of the HTTP library, which depends on the Hub's version.
        raise UserError(
            f"{name}: {' '.join(str(error).split())[:300]}", code="download-failed"
        ) from error


def model_card(metadata: Metadata, repo: str, files: tuple[str, ...]) -> str:
    """README.md of a repository on the Hub, Markdown with a YAML head.

    `repo` is "owner/name", `files` are the names of the weights in it.
    """
    formats = sorted({name.rpartition(".")[2] for name in files})
    head = {
        "library_name": "hrpose",
        "pipeline_tag": "keypoint-detection",
        "license": "other",
        "license_name": "see-the-card",
        "tags": ["hrpose", "hrnet", "human-pose-estimation", "keypoint-detection", *formats],
    }
    # JSON is YAML, and quotes what needs it.
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    width, height = metadata.input_wh
    skeleton, codec = metadata.skeleton, metadata.codec
    keypoints = ", ".join(f"`{_code(name)}`" for name in skeleton.keypoints)
    scores = "None. `hrpose evaluate` measures them on your data."
    if metadata.scores:
        rows = (f"| {_line(name)} | {value:.3f} |" for name, value in metadata.scores.items())
        scores = "\n".join(["| metric | value |", "|---|---|", *rows])
    return f"""---
{yaml}
---

# {_line(metadata.name) or repo}

HRNet `{_code(metadata.network)}` for the {len(skeleton)} keypoints of `{_code(skeleton.name)}`, \
input {width}x{height} pixels, codec `{_code(codec.name)}` with sigma {codec.sigma:g}.

```python
import hrpose

estimator = hrpose.from_pretrained("{repo}")  # revision="..." pins it
poses = estimator("photo.jpg")
```

    hrpose predict photo.jpg --weights hf:{repo}

**Trained on:** {_line(metadata.training_data)}

**License:** {_line(metadata.license)}

## Metrics

{scores}

## Keypoints

{keypoints}

The files hold tensors and metadata, no code. `metadata.json` has the facts above for programs.
"""


def _line(text: str) -> str:
    """One line of text that cannot become a heading, a table's cell, or HTML."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|").lstrip("#-> ")


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")
