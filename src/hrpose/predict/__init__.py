"""From whatever a user names to files of poses: inputs, predictions, results.

`inputs` sorts images, folders, clips, cameras and addresses; `images` estimates the poses in
images (clips are `hrpose.video`'s); `results` writes what was found.
"""
