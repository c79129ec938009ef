"""Synthetic people: drawn figures in random poses whose keypoints are known exactly.

They feed tests, benchmarks and a two-minute training example. They are drawings: a score on them
says nothing about photographs.
"""

from hrpose.synthetic.dataset import write_dataset
from hrpose.synthetic.picture import SyntheticPicture, render_picture

__all__ = ["SyntheticPicture", "render_picture", "write_dataset"]
