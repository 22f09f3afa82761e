"""The commands of `ablate`, one a file, named as what one types."""
