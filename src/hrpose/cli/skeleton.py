"""`hrpose data skeleton`."""

from pathlib import Path
from typing import Annotated

import typer


def skeleton(
    annotations: Annotated[Path, typer.Argument(help="COCO keypoints JSON.")],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; without it, it is printed.")
    ] = None,
) -> None:
    """Write the file that completes a skeleton, for `data.skeleton` in recipes; look it over.

    Which keypoints change places in a mirror image is guessed from their names.
    """
    from hrpose.data.coco import Reader, read_json
    from hrpose.data.skeleton_file import to_yaml
    from hrpose.errors import UserError
    from hrpose.files import write_atomically
    from hrpose.skeleton import SHIPPED

    found, _ = Reader(annotations).skeleton(read_json(annotations))
    if out is None:
        typer.echo(to_yaml(found), nl=False)
    elif out.exists():
        raise UserError(f"{out}: exists, and may have been corrected by hand; remove it first")
    else:
        write_atomically(out, to_yaml(found))
    names = found.keypoints
    paired = {index for pair in found.flip_pairs for index in pair}
    alone = [name for index, name in enumerate(names) if index not in paired]
    whence = "known" if found in SHIPPED.values() else "paired by their names"
    lines = [
        f"{len(found)} keypoints of '{found.name}', {whence}:",
        *(f"  {names[left]} <-> {names[right]}" for left, right in found.flip_pairs),
        f"  on their own: {', '.join(alone) or 'none'}",
        *([f"wrote {out}; correct it where that is wrong"] if out else []),
    ]
    typer.echo("\n".join(lines), err=True)
