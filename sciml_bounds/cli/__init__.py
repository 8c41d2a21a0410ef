"""The command line: one file a sub-command, each of them thin; `main.run` is the entry point."""
