"""Benchmark definitions (data, recipe, budget, baseline) and training overrides. Does not import torch."""
