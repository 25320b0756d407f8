"""Numba kernels: arrays and scalars in, arrays out; every check is made by the face that calls them."""
