"""Training of the person detector, on the modules of `hrpose.training`."""
