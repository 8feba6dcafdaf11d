"""``python -m spikeloop`` is the command line."""

from spikeloop.cli.entry import main

main()
