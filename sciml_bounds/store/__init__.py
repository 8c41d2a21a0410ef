"""Files: readers of foreign files, our own data sets, results and weights, and exchange with other packages."""
