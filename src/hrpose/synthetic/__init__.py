"""Synthetic people and animals: drawn figures in random poses whose keypoints are known exactly.

They feed tests, benchmarks and a two-minute training example. They are drawings: a score on them
says nothing about photographs.
"""

from hrpose.synthetic.animal import ANIMAL
from hrpose.synthetic.dataset import write_dataset
from hrpose.synthetic.figure import Figure
from hrpose.synthetic.person import PERSON
from hrpose.synthetic.picture import SyntheticPicture, render_picture

__all__ = ["ANIMAL", "PERSON", "Figure", "SyntheticPicture", "render_picture", "write_dataset"]
