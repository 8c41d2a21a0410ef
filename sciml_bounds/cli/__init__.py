"""Command-line interface: one thin module per sub-command; `main.run` is the entry point."""
