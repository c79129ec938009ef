"""Training of the person finder."""
