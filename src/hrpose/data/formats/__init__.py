"""What annotation tools and older data sets write, to COCO keypoints JSON, and back.

A file for each format reads it into a `PoseSet` (`people.py`); `to_coco.py` writes that as COCO
keypoints, for all of them. The way back starts from `from_coco.py`. `table.py` lists the formats.
"""
