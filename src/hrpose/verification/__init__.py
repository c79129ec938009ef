"""The parity certificate: how equal this machine's hrpose is to the official code."""

from hrpose.verification.certificate import Certificate, Check
from hrpose.verification.golden import Golden

__all__ = ["Certificate", "Check", "Golden"]
