"""Readers of foreign files: nothing is unpickled, and sizes are checked before memory is allocated."""
