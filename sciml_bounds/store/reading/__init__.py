"""Readers of files that others made: nothing is unpickled, and sizes are checked before memory is allocated."""
