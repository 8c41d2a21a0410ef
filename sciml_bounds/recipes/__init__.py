"""Data sets from recipes, one file each: what is drawn, what is solved, what is stored."""
