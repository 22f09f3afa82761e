"""The training loop, which is the same for every model, so rows of a table differ only in what each row changes."""
