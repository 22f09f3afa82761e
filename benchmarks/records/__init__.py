"""The record store and the crash-safe file operations beneath it. Loads no torch."""
