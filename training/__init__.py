"""Training, offline and apart: nothing else imports it, and only here (and in the torch importer) is torch used.

Each algorithm is one file that reads from top to bottom and runs by itself: ``python -m spikeloop.training.distil``.
They share the differentiable spiking layers (`spiking`), teachers, evaluation, and the command line (`arguments`).
"""
