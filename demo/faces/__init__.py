"""Heads, drawn from a character and a pose."""
