"""Prediction from images, folders, clips, cameras and addresses to files of poses.

`inputs` finds the images and clips and predicts the images (clips are `hrpose.video`'s); `results`
writes files and drawn images.
"""
