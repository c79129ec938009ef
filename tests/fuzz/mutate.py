"""Damage bytes, the same way for the same generator."""

import numpy as np

# Numbers at the edges of what lengths, sizes and offsets can be.
EDGES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff")
TEXT = (b"-1", b"1e999", b"NaN", b"null", b"[]", b"{}", b'"', b"[" * 2000, b"9" * 400, b"\r\n")


def mutate(rng: np.random.Generator, seeds: list[bytes]) -> bytes:
    """One of the seeds with one to eight damages; most are near the start, where headers are."""
    data = bytearray(seeds[rng.integers(len(seeds))])
    for _ in range(rng.integers(1, 9)):
        end = len(data) if rng.random() < 0.4 else min(len(data), 200)
        at = int(rng.integers(end + 1))
        length = int(rng.integers(1, 17))
        match rng.integers(6):
            case 0 if at < len(data):
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                edge = EDGES[rng.integers(len(EDGES))]
                data[at : at + len(edge)] = edge
            case 2:
                data[at:at] = TEXT[rng.integers(len(TEXT))]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case _:
                if rng.random() < 0.3:
                    del data[at:]
                else:
                    data[at : at + length] = rng.bytes(length)
    return bytes(data)
