"""Samplers: how the next candidate is proposed."""
