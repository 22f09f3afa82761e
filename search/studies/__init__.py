"""Scripts that measure `search` itself. They are not part of the wheel."""
