"""What annotation tools and older data sets write, to COCO keypoints JSON, and back.

There is a file for each format: `read` returns a `PoseSet` (`persons.py`), `files` writes one. For
all of them `coco.py` writes and reads COCO keypoints. `table.py` lists the formats.
"""
