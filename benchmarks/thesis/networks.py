"""The thesis' networks: where each is, what it came from, and the states that it is asked about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from common import DATA, THESIS, thesis_network
from spikeloop.models import Network
from spikeloop.runtime import Agent, Decision, Timings, launch
from spikeloop.training.conversion import convert
from spikeloop.training.policy import load_policy

from .tables import CARTPOLE, CLASSIFIER_ORIGINAL, DQN, DQN_ORIGINAL, DSQN, INDIRECT, MOUNTAINCAR, PG, PG_ORIGINAL


class Conventional:
    """A conventional network (ReLU between its layers) that decides by its largest output."""

    def __init__(self, network: Network) -> None:
        self._layers = network.layers

    def reset(self, *, seed: int | None = None) -> None:
        """Nothing to reset."""

    def decide(self, observation: object, *, spikes: bool = False) -> Decision:
        """Decide on one observation, or on a batch."""
        values = np.asarray(observation, dtype=np.float64)
        for layer in self._layers[:-1]:
            values = np.maximum(values @ layer.weights + layer.bias, 0.0)
        values = values @ self._layers[-1].weights + self._layers[-1].bias
        action = values.argmax(axis=-1)
        return Decision(int(action) if action.ndim == 0 else action, values, Timings())

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True, slots=True)
class Source:
    """A network of the thesis.

    Attributes
    ----------
    folder : str
        Of the spiking network; "" where the conventional one is converted here, as the thesis did it (robust
        normalisation with p = 0.99).
    origin : str
        Folder of the conventional network that it was converted from; "" where it was trained as it is.
    states : str
        The golden file whose observations are the stored states.
    memory : str
        Folder of the replay memory.
    """

    name: str
    env: str
    folder: str
    origin: str
    states: str
    memory: str = ""

    @property
    def found(self) -> bool:
        """Whether its files are here."""
        files = [THESIS / folder / "model.pt" for folder in (self.folder, self.origin) if folder]
        return all(file.is_file() for file in files) and (bool(self.folder) or self.memory_file.is_file())

    @property
    def memory_file(self):
        """The replay memory."""
        return THESIS / self.memory / "memory_inputs.npz"

    def network(self, steps: int) -> Network:
        """The spiking network."""
        if self.folder:
            return thesis_network(self.folder, steps=steps, constant_one=not self.origin)
        return convert(
            load_policy(THESIS / self.origin / "model.pt"), states=np.load(self.memory_file)["arr_0"], steps=steps
        )

    def came_from(self, steps: int) -> Conventional | Agent:
        """What it should decide as: the conventional network, or the trained one's own dynamics."""
        if self.origin:
            return Conventional(thesis_network(self.origin, steps=1))
        return launch(self.network(steps), "reference")

    def golden(self) -> np.ndarray:
        """500 stored states [500, n_inputs]."""
        return stored_states(self.states)


@cache
def stored_states(name: str) -> np.ndarray:
    """The observations of a golden file."""
    return np.load(DATA / "golden" / f"{name}.npz")["observations"].astype(np.float64)


CONVERTED = (
    Source(DQN, CARTPOLE, "CartPole-A/DQN-Converted", "CartPole-A/DQN/trained", "CartPole-A_DQN-Converted_T100"),
    # The published Classifier-Converted comes from another training of the classifier than the published one.
    Source(INDIRECT, CARTPOLE, "", "CartPole-A/Classifier/trained", "CartPole-A_Classifier-Converted_T100",
           memory="CartPole-A/DQN/trained"),
    Source(PG, CARTPOLE, "CartPole-PolicyGradient/converted", "CartPole-PolicyGradient/trained",
           "CartPole-PolicyGradient_converted_T100"),
)  # fmt: skip
# That of the other training: not in the thesis' tables, but what its own notebook ran on a board.
PUBLISHED = Source(f"{INDIRECT}, as published", CARTPOLE, "CartPole-A/Classifier-Converted", CONVERTED[1].origin,
                   CONVERTED[1].states)  # fmt: skip
MOUNTAIN = {"states": "MountainCar-E_DSQN_T20", "memory": "MountainCar-A/trained"}
SOURCES = {
    (source.env, source.name): source
    for source in (
        *CONVERTED,
        Source(DSQN, CARTPOLE, "CartPole-E(SNN)/trained", "", "CartPole-E_DSQN_T20"),
        Source(DQN, MOUNTAINCAR, "", "MountainCar-A/trained", **MOUNTAIN),
        Source(INDIRECT, MOUNTAINCAR, "", "MountainCar-A/Classifier", **MOUNTAIN),
        Source(DSQN, MOUNTAINCAR, "MountainCar-E(SNN)/trained", "", "MountainCar-E_DSQN_T20"),
    )
}
# The thesis published two DSQNs for MountainCar, and does not say which of them its tables are of.
BEST = Source(f"{DSQN}, best episode's", MOUNTAINCAR, "MountainCar-E(SNN)/best", "", "MountainCar-E_DSQN_T20")
ORIGINAL = {DQN_ORIGINAL: DQN, CLASSIFIER_ORIGINAL: INDIRECT, PG_ORIGINAL: PG}


def sources(env: str, name: str) -> tuple[Source, ...]:
    """The networks that a row of the thesis can be of; the first as the thesis' own code loads it."""
    source = SOURCES[env, ORIGINAL.get(name, name)]
    return (source, BEST) if (env, name) == (MOUNTAINCAR, DSQN) else (source,)
