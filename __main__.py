"""``python -m spikeloop`` is the command line."""

from spikeloop.cli.main import main

main()
