"""Synthetic persons and animals: drawn figures in random poses with exactly known keypoints.

They are for tests, benchmarks and a two-minute training example. As they are drawings, metrics on
them say nothing about photographs.
"""

from hrpose.synthetic.figures import ANIMAL, PERSON, Figure
from hrpose.synthetic.render import SyntheticImage, render_image, write_dataset

__all__ = ["ANIMAL", "PERSON", "Figure", "SyntheticImage", "render_image", "write_dataset"]
