"""What a benchmark is: data, recipe, budget and baseline, and what a row may override."""
