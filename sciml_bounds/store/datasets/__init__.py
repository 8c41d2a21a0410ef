"""Our own files: data sets, results and weights, checked and versioned."""
