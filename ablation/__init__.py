"""Ablation studies: what to run, and what the records say."""
