"""Tools that make and check the documentation and releases; not part of the package."""
