"""Seeds of all random draws."""

import hashlib


def derive_seed(seed: int, *purpose: object) -> int:
    """Derive a seed for one purpose.

    The result depends only on the arguments, so a resumed run makes the same draws as an uninterrupted one.

    Args:
        seed: The run's seed.
        purpose: What the seed is for, such as an epoch and the name of a generator.

    Returns:
        A seed in [0, 2**63).
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
