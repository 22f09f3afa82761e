"""Worker processes, local or on a Ray cluster, with progress, signals and device selection.

No module here imports torch when it is imported, except `preload`.
"""
