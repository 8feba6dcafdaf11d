"""WHAT a network is: its layers, neurons, encoder and decoder; the file format; importers; bundled agents."""

from .decoders import Decoder
from .encoders import Encoder
from .file import save
from .loading import bundled, load
from .network import Dense, Network, Neuron
from .stimulus import Stimulus

__all__ = ["Decoder", "Dense", "Encoder", "Network", "Neuron", "Stimulus", "bundled", "load", "save"]
