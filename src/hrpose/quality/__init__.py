"""A data set looked over before it is trained on: faults, a page to browse, what to label next."""
