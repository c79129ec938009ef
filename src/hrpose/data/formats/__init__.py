"""Annotation formats of other tools: one file each, with `read` and, where it is written, `files`.

`convert.py` lists the formats and converts them by way of COCO keypoints JSON; `pose_set.py` has
what all of them are read into.
"""
