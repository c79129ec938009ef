"""Draw with supervision, and report who raises a hand.

pip install hrpose, and supervision as docs/guide/images.md says
python examples/supervision_zones.py examples/astronaut.jpg out.png
"""

import io
import sys
from pathlib import Path

import supervision as sv
from PIL import Image

import hrpose
from hrpose.image import read_image
from hrpose.io import write_atomically


def annotate(path: Path, threshold: float = 0.3) -> tuple[Image.Image, list[bool]]:
    """The image with supervision's skeletons, and for each person whether a hand is raised."""
    image = read_image(path)
    poses = hrpose.load()(image)
    points = poses.to_supervision(threshold)
    edges = sv.EdgeAnnotator(
        color=sv.Color.GREEN,
        thickness=3,
        edges=[(a + 1, b + 1) for a, b in poses.skeleton.limbs],  # counted from 1
    )
    # supervision's images are BGR.
    canvas = edges.annotate(image[..., ::-1].copy(), points)
    canvas = sv.VertexAnnotator(color=sv.Color.RED, radius=4).annotate(canvas, points)
    canvas = canvas[..., ::-1].copy()
    index = {name: i for i, name in enumerate(poses.skeleton.keypoints)}
    raised = []
    for keypoints in poses.keypoints:
        pairs = [(index[f"{s}_wrist"], index[f"{s}_shoulder"]) for s in ("left", "right")]
        raised.append(
            any(
                min(keypoints[w, 2], keypoints[s, 2]) >= threshold
                and keypoints[w, 1] < keypoints[s, 1]
                for w, s in pairs
            )
        )
    return Image.fromarray(canvas), raised


def main() -> None:
    """Annotate the first file, and write the second."""
    path, out = Path(sys.argv[1]), Path(sys.argv[2])
    drawn, raised = annotate(path)
    content = io.BytesIO()
    drawn.save(content, "PNG")
    write_atomically(out, content.getvalue())
    print(f"{out}: {sum(raised)} of {len(raised)} people raise a hand")


if __name__ == "__main__":
    main()
