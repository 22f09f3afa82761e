"""Searches architectures inside a budget: what may vary, who proposes, how much training each proposal is worth."""
