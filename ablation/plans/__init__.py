"""Ablation plans: parse the text of a plan into the rows of a table. No module here imports torch."""
