"""Reference training loops: the same model, batch size, precision and images, trained with third-party code."""
