"""What every network shares: input checks, normalisers and losses."""
