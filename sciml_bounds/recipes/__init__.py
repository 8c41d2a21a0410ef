"""Recipes for data sets, one per module: what is drawn at random, what is solved and what is stored."""
