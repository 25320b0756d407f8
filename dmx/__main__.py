"""`python -m dmx` is the `dmx` command."""

from dmx.cli import main

main()
