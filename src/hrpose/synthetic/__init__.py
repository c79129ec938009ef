"""Synthetic people and animals: drawn figures in random poses whose keypoints are known exactly.

They feed tests, benchmarks and a two-minute training example. They are drawings: a score on them
says nothing about photographs.
"""

from hrpose.synthetic.drawing import Figure
from hrpose.synthetic.figures import ANIMAL, PERSON
from hrpose.synthetic.render import SyntheticImage, render_image, write_dataset

__all__ = ["ANIMAL", "PERSON", "Figure", "SyntheticImage", "render_image", "write_dataset"]
