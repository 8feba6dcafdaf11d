"""A recorded episode again, decision by decision: is it the same to the bit?"""

from .episode import replay
from .recorded import recorded_network, recorded_setup
from .report import Replay, ReplayedDecision, ReplayedEnvironment

__all__ = ["Replay", "ReplayedDecision", "ReplayedEnvironment", "recorded_network", "recorded_setup", "replay"]
