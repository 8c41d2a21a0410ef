"""One trainer for every network of the package."""
