"""WHAT a network is: its layers, neurons, encoder and decoder; the file format; importers; bundled agents."""

from .decoders import Decoder
from .encoders import Encoder
from .file import save
from .loading import bundled, load
from .network import Conv2d, Dense, Network, Neuron
from .stimulus import Stimulus

__all__ = ["Conv2d", "Decoder", "Dense", "Encoder", "Network", "Neuron", "Stimulus", "bundled", "load", "save"]
