"""Guaranteed bounds on the error of any answer."""
