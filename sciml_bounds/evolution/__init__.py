"""Time-dependent models."""
