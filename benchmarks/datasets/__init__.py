"""Data sets, decoded once to uint8 arrays and cached on disk."""
