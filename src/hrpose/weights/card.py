"""A model card: what a passport says, for people, and for the search of the Hugging Face Hub."""

import json

from hrpose.metadata import Metadata


def model_card(passport: Metadata, repo: str, files: tuple[str, ...]) -> str:
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
    width, height = passport.input_wh
    skeleton = passport.skeleton
    # JSON is YAML, and quotes what needs it.
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", ""]
    lines += [
        f"# {_line(passport.name) or repo}",
        "",
        f"HRNet `{_code(passport.network)}` for the {len(skeleton)} joints of "
        f"`{_code(skeleton.name)}`, input {width}x{height} pixels, codec "
        f"`{_code(passport.codec.name)}` with sigma {passport.codec.sigma:g}.",
        "",
        "```python",
        "import hrpose",
        "",
        f'estimator = hrpose.from_pretrained("{repo}")  # revision="..." pins it',
        'poses = estimator("photo.jpg")',
        "```",
        "",
        f"    hrpose predict photo.jpg --weights hf:{repo}",
        "",
        f"**Trained on:** {_line(passport.training_data)}",
        "",
        f"**Licence:** {_line(passport.license)}",
        "",
        "## Figures",
        "",
    ]
    if passport.scores:
        lines += ["| what | value |", "|---|---|"]
        lines += [f"| {_line(name)} | {value:.3f} |" for name, value in passport.scores.items()]
    else:
        lines += ["None are stated. `hrpose evaluate` measures them on your data."]
    lines += ["", "## Joints", "", ", ".join(f"`{_code(name)}`" for name in skeleton.keypoints), ""]
    lines += [
        "The files hold tensors and a passport, no code. The passport says all of the above to "
        "programs.",
        "",
    ]
    return "\n".join(lines)


def _line(text: str) -> str:
    """One line of text that cannot become a heading, a table's cell, or HTML."""
    return " ".join(text.split()).replace("<", "&lt;").replace("|", "\\|").lstrip("#-> ")


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")
