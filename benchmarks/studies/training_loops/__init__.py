"""Reference training loops: the same model, batch size, precision and images, trained by other people's code."""
