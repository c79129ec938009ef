"""Ours against the plain way, in one process, in turn; the ratio and its spread. Not tests."""
