"""Architecture search inside a budget: search spaces, samplers, rungs of training, and the final selection.

No module here imports torch when it is imported, except those that run in worker processes (`search.jobs`,
`search.report.export`).
"""
