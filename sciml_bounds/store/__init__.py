"""Files: readers of foreign arrays, the writer of results, and what they share."""
