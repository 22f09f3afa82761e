"""Table output, figures, findings, the PDF report and exports to experiment trackers. No module here imports torch."""
