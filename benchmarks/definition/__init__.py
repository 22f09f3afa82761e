"""What a benchmark is (data, recipe, budget, baseline) and what a run may override. Does not import torch."""
