"""Shared parts of the networks: input checks, normalisers and losses."""
