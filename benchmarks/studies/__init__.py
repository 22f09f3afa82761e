"""Scripts that measure this package itself. They are not part of the wheel."""
