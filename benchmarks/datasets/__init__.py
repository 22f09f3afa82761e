"""Data sets, decoded once to uint8 arrays and cached on disk. Only `near_duplicates` and `cifar` use torch."""
