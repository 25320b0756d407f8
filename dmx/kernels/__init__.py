"""Compiled loops of the search: arrays and scalars in, arrays out."""
