"""Functions with bounded spectral Barron norms: series, rules that carry their norms, solutions of equations."""
