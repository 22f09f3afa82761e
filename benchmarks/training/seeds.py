"""Where every random draw comes from."""

import hashlib


def derive_seed(seed: int, *words: object) -> int:
    """A seed for one purpose, a pure function of its arguments, so that a resumed run draws what it would have."""
    digest = hashlib.sha256("/".join(map(str, (seed, *words))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
