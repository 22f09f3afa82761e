"""Scripts that measure this project itself. The wheel does not contain them."""
