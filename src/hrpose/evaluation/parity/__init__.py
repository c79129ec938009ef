"""The parity certificate: how equal this machine's hrpose is to the official code."""
