"""What differs between environments, by algorithm: settings in place of an algorithm's own defaults.

Where the thesis *Deep Spiking Q Networks* (2020) has a table for the environment, its values: B.3 (Breakout), B.8
(MountainCar). ``max_steps`` and ``target_average`` are the standards by which it calls an environment solved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Presets = Mapping[str, Mapping[str, Any]]

_CARTPOLE = {"max_steps": 200, "target_average": 195.0}
_MOUNTAIN_CAR = {"max_steps": 500, "target_average": -130.0, "hidden": (64, 64), "shaping": "mountain-car"}
_BREAKOUT = {
    "discount": 0.99,
    "epsilon_end": 0.1,
    "epsilon_schedule": "linear",
    "epsilon_steps": 1_000_000,
    "memory_size": 200_000,
    "initial_memory": 50_000,
    "batch_size": 32,
    "target_unit": "steps",
    "target_every": 10_000,
    "double": False,
    "update_every": 4,
    "shaping": "sign",
    "episodes": 30_000,
}
_RMSPROP = {"optimiser": "rmsprop", "learning_rate": 0.00025}
_PATEL = {"hidden": (1000,), "input_scale": 1 / 255}

DQN: Presets = {
    "CartPole-v1": _CARTPOLE,
    "MountainCar-v0": _MOUNTAIN_CAR | {"target_every": 5},
    "spikeloop/BreakoutPatel-v0": _BREAKOUT | _RMSPROP | _PATEL,
    "spikeloop/BreakoutMnih-v0": _BREAKOUT | _RMSPROP | {"network": "mnih", "memory_size": 100_000},
}
DSQN: Presets = {
    "CartPole-v1": _CARTPOLE,
    "MountainCar-v0": _MOUNTAIN_CAR | {"target_every": 5, "hidden": (65, 65)},
    "spikeloop/BreakoutPatel-v0": _BREAKOUT | _PATEL,
}
REINFORCE: Presets = {"CartPole-v1": _CARTPOLE, "MountainCar-v0": _MOUNTAIN_CAR}
