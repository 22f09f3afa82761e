"""Scripts that measure `search` itself; they are not part of the wheel."""
