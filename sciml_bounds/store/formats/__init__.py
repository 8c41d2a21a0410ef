"""Published formats and those of other packages: import and export."""
