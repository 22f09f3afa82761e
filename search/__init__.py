"""Architecture search within a budget: search spaces, samplers, rungs of training, and the final selection.

No module here imports torch when it is imported, except `search.report.export`, which runs in a worker process.
"""
