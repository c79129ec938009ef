"""Training: a recipe (`recipe`), the loss, a Lightning module and its data, one `run`."""
