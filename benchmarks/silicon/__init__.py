"""Experiments on an NVIDIA Hopper GPU. Nothing of mxsim needs one; README.md here says how each is run and where its results lie."""
