"""Finding people in a picture: boxes with scores, for the pose network to look into."""
