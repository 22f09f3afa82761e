"""How every model is trained: nothing in here may differ between two rows of a table."""
