"""Ablation plans: from text to the rows of a table."""
