"""DSQN: deep Q-learning on a spiking network, by surrogate gradients.

    python -m spikeloop.training.dsqn --env CartPole-v1 --seed 1 -o runs/dsqn

The algorithm is `spikeloop.training.dqn.learn`; here is the network. The value of an action is the potential of its
output neuron after the window. The defaults are those of the thesis *Deep Spiking Q Networks* (2020), table B.8: no
biases, but one more input that is always 1, and one more neuron in each hidden layer.

References
----------
Neftci, Mostafa and Zenke, "Surrogate Gradient Learning in Spiking Neural Networks", IEEE Signal Processing Magazine
36(6), 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .arguments import parse_given, run_as_script
from .dqn import Learner, QSettings, learn
from .environment import Shaping
from .presets import DSQN as PRESETS
from .settings import resumed
from .spiking_policy import SpikingPolicy, SpikingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(QSettings, SpikingSettings):
    """Train a spiking network by deep Q-learning with surrogate gradients."""

    output: Path = Path("runs/dsqn")
    learning_rate: float = 0.0005
    hidden: tuple[int, ...] = (17, 17)

    def __post_init__(self) -> None:
        super(Settings, self).__post_init__()
        self.check_spiking()


def train(settings: Settings, *, shaping: Shaping | None = None) -> dict[str, Any]:
    """Train; the run's folder holds the models. Returns the summary. See `spikeloop.training.dqn.train`."""
    return learn(settings, "dsqn", _learner, shaping)


def _learner(settings: Settings, n_inputs: int, n_actions: int) -> Learner:
    module = SpikingPolicy(settings, n_inputs, n_actions)
    return Learner(module, module.to_network, module.learnt())


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train as the command line says."""
    settings, given = parse_given(Settings, "spikeloop train dsqn", argv, PRESETS)
    settings = resumed(settings, "dsqn", given)
    return {"folder": str(settings.output), **train(settings)}


if __name__ == "__main__":
    run_as_script(main)
