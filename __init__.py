"""Spikeloop: deploy a trained spiking agent, close the loop with a live environment, prove that it decides as trained."""

__version__ = "0.1.0"
