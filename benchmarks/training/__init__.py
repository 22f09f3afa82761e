"""The training loop, which is the same for every model: rows of a table differ only in what the row changes."""
