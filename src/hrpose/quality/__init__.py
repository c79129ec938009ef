"""Quality of a data set: problems, a preview page, which images to label next."""
