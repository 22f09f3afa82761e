"""Ablation studies: plan and train the rows of a table, analyze their records, and report the results."""
