"""Outputs of a search: tables, figures, and the exported winner."""
