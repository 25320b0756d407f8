"""`python -m mxsim` is the `mxsim` command."""

from mxsim.cli import main

main()
