"""What a model costs, and whether that is inside the budget."""
