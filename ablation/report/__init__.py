"""Figures, sentences and the PDF report."""
