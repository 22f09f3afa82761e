"""The record store and the crash-safe file operations that it is built on. Does not import torch."""
