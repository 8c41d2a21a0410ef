"""Time-dependent problems: smoke and incompressible flow."""
