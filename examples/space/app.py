"""A Gradio Space: draws the skeletons in an image, and lists the keypoints in a table."""

import os
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hrpose

# Limits for untrusted users of a small machine.
MAX_PIXELS = 20_000_000


@cache
def estimator(flip_test: bool) -> hrpose.PoseEstimator:
    """The model of this Space, loaded once."""
    return hrpose.load(os.environ.get("HRPOSE_WEIGHTS", "w32-small"), flip_test=flip_test)


def find_poses(
    image: NDArray[np.uint8] | None, threshold: float, flip_test: bool
) -> tuple[NDArray[np.uint8] | None, list[list[Any]]]:
    """The image (h, w, 3) uint8 RGB with skeletons, and rows of person, keypoint, x, y, score."""
    if image is None:
        return None, []
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        raise hrpose.UserError(
            f"expected at most {MAX_PIXELS / 1e6:.0f} megapixels", code="image-too-large"
        )
    poses = estimator(flip_test)(np.ascontiguousarray(image[..., :3]))
    rows = [
        [person, name, round(float(x), 1), round(float(y), 1), round(float(score), 3)]
        for person, keypoints in enumerate(poses.keypoints)
        for name, (x, y, score) in zip(poses.skeleton.keypoints, keypoints, strict=True)
        if score >= threshold
    ]
    return hrpose.draw(image[..., :3], poses, threshold), rows


def page() -> Any:
    """The page. Gradio is imported here, so that the rest can be tested without it."""
    import gradio as gr

    def answer(image: Any, threshold: float, flip_test: bool) -> Any:
        try:
            return find_poses(image, threshold, flip_test)
        except hrpose.UserError as error:
            raise gr.Error(str(error)) from error

    return gr.Interface(
        answer,
        [
            gr.Image(label="Image"),
            gr.Slider(0, 1, 0.3, label="Minimum score of a keypoint"),
            gr.Checkbox(label="Flip test: more accurate, twice the work"),
        ],
        [
            gr.Image(label="Skeletons"),
            gr.Dataframe(headers=["person", "keypoint", "x", "y", "score"]),
        ],
        title="hrpose",
        description="Human pose estimation with HRNet. This app does not store images.",
        flagging_mode="never",
    )


if __name__ == "__main__":
    page().queue(max_size=20).launch()
