"""Training: recipes and their checks, Lightning modules and data modules, checkpoints."""
