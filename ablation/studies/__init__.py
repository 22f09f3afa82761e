"""Scripts that measure `ablate` itself. They are not part of the wheel."""
