"""Files of this package: data sets, results and weights, with checksums and format versions."""
