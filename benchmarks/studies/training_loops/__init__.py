"""The same net, batch, precision and images through other people's training loops, in one run, with ratios."""
