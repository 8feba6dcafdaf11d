"""The thesis' conversion tables 4.2, 4.3, 4.4 and 4.11, run again with `spikeloop.training.conversion`.

The converted network drives CartPole-v1 (500 steps at most, 100 episodes, seeds from 0); the conventional network it
comes from says what it would do in every state visited, and the share of equal decisions is the thesis' conversion
accuracy. About ten minutes.

Table 4.3 has some rows twice: with the encoders and decoders of this package, and as the thesis' code does it
(`thesis_spikes`, `last_of_equals`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from common import THESIS, machine, show
from spikeloop.models import Decoder, Encoder, Network, Stimulus
from spikeloop.runtime import Agent, launch
from spikeloop.training.conversion import convert
from spikeloop.training.episodes import play
from spikeloop.training.policy import Policy, load_policy

EPISODES = 100
AS_THE_THESIS = ", thesis' code"


def thesis_spikes(observations: np.ndarray, steps: int) -> np.ndarray:
    """Equidistant spikes [n, steps, channels] as the thesis' code makes them: the k-th in step ``round(k / x)``.

    Above 1, two of them soon fall in the same step. The code then waits for the second in steps that are over: the
    channel is silent from there on.
    """
    values = np.concatenate([np.maximum(observations, 0.0), np.maximum(-observations, 0.0)], axis=1).astype(np.float32)
    with np.errstate(divide="ignore"):
        interval = np.float32(1.0) / values
    number = np.ones_like(values)
    spikes = np.zeros((len(values), steps, values.shape[1]), dtype=np.uint8)
    for step in range(steps):
        spikes[:, step] = np.rint(interval * number) == step
        number += spikes[:, step]
    return spikes


def last_of_equals(values: np.ndarray) -> np.ndarray:
    """The last of the largest values, as argmax returned it for ties in PyTorch 1.5 (pytorch issue 41998)."""
    return values.shape[1] - 1 - values[:, ::-1].argmax(axis=1)


def decide_as_the_thesis(agent: Agent, observations: np.ndarray) -> np.ndarray:
    """Actions with the thesis' equidistant spikes and its way with equal spike counts."""
    network = agent.network
    if network.encoder.kind == "equidistant":
        spikes = thesis_spikes(observations, network.steps)
        decision = agent.decide_stimulus(Stimulus(np.zeros((len(spikes), network.n_channels)), spikes))
    else:
        decision = agent.decide(observations)
    return last_of_equals(np.atleast_2d(decision.output))


def driven(policy: Policy, network: Network, episodes: int, as_the_thesis: bool = False) -> tuple[str, str]:
    """Mean and standard deviation of the return, and conversion accuracy."""
    with launch(network, "reference") as agent:

        def decide(moment):
            if as_the_thesis:
                return decide_as_the_thesis(agent, moment.observations)
            return np.asarray(agent.decide(moment.observations).action)

        ran = play(
            "CartPole-v1", decide, episodes, 0, other=lambda moment: policy.actions(moment.observations), keep=None
        )
    accuracy = 100 * ran.agreed / ran.lengths.sum()
    return f"{ran.returns.mean():.1f} ({ran.returns.std():.1f})", f"{accuracy:.1f}"


class Origins:
    """The thesis' conventional networks, and the states that normalise them."""

    def __init__(self) -> None:
        folder = THESIS / "CartPole-A"
        self.dqn = load_policy(folder / "DQN/trained/model.pt")
        self.classifier = load_policy(folder / "Classifier/trained/model.pt")
        self.states = np.load(folder / "DQN/trained/memory_inputs.npz")["arr_0"]
        folder = THESIS / "CartPole-PolicyGradient/trained"
        self.gradient, self.gradient_states = (
            load_policy(folder / "model.pt"),
            np.load(folder / "memory_inputs.npz")["arr_0"],
        )


def two(title: str, first: str, rows: Sequence[tuple], origins: Origins) -> None:
    """A table of DQN and classifier: (label, options, episodes, thesis DQN, accuracy, thesis classifier, accuracy)."""
    table = []
    for label, options, episodes, *thesis in rows:
        here = []
        as_the_thesis = label.endswith(AS_THE_THESIS)
        for policy in (origins.dqn, origins.classifier):
            here += driven(policy, convert(policy, states=origins.states, **options), episodes, as_the_thesis)
        table.append((label, thesis[0], here[0], thesis[1], here[1], thesis[2], here[2], thesis[3], here[3]))
    columns = [first]
    for name in ("DQN", "classifier"):
        columns += [f"{name}: return, thesis ", "here ", "accuracy %, thesis ", "here "]
    show(title, columns, table, machine())


def normalisation(origins: Origins) -> None:
    """Table 4.2."""
    rows = [
        ("model-based", {"method": "model"}, "120.9 (4.1)", "60.0", "203.2 (24.6)", "96.6"),
        ("data-based", {"method": "data"}, "125.5 (3.7)", "61.4", "190.3 (22.7)", "94.9"),
        ("robust, p = 0.99", {"percentile": 0.99}, "122.0 (3.6)", "60.8", "195.2 (18.4)", "95.6"),
        ("robust, p = 0.95", {"percentile": 0.95}, "127.6 (3.9)", "62.9", "196.3 (23.5)", "96.1"),
    ]
    rows = [(label, {"steps": 100, **options}, EPISODES, *thesis) for label, options, *thesis in rows]
    two("Table 4.2: normalisation (T = 100)", "method", rows, origins)


def encodings(origins: Origins) -> None:
    """Table 4.3."""
    thesis = {
        ("poisson", "spike_count"): ("423.9 (77.0)", "64.0", "374.7 (87.9)", "83.4"),
        ("poisson", "potential"): ("128.8 (6.2)", "63.7", "384.5 (96.8)", "83.3"),
        ("equidistant", "spike_count"): ("105.5 (61.8)", "65.3", "181.1 (49.0)", "82.4"),
        ("equidistant", "potential"): ("88.5 (21.9)", "61.2", "181.6 (45.1)", "81.2"),
        ("current", "spike_count"): ("390.9 (102.4)", "64.8", "190.0 (16.6)", "95.2"),
        ("current", "potential"): ("122.0 (3.6)", "60.8", "195.2 (18.4)", "95.6"),
    }
    rows = []
    for (kind, decoder), figures in thesis.items():
        encoder = Encoder(kind, two_neurons=kind != "current")
        options = {"steps": 100, "encoder": encoder, "decoder": Decoder(decoder)}
        rows.append((f"{kind}, {decoder}", options, EPISODES, *figures))
        if kind == "equidistant" or decoder == "spike_count":
            rows.append((f"{kind}, {decoder}{AS_THE_THESIS}", options, EPISODES, *figures))
    two("Table 4.3: encoding and decoding (robust, p = 0.99, T = 100)", "encoder, decoder", rows, origins)


def durations(origins: Origins) -> None:
    """Tables 4.4 and 4.11."""
    rows = [
        (10, EPISODES, "18.6 (14.5)", "56.0", "14.1 (1.6)", "44.6"),
        (50, EPISODES, "122.4 (3.9)", "62.1", "169.6 (17.2)", "89.0"),
        (100, EPISODES, "122.3 (3.6)", "60.7", "195.2 (18.4)", "95.6"),
        (500, EPISODES, "160.1 (9.2)", "81.6", "217.6 (33.0)", "99.1"),
        (1000, EPISODES, "175.6 (12.1)", "89.4", "229.7 (58.3)", "99.4"),
        (5000, 20, "", "97.6", "", ">99.9"),
    ]
    two(
        "Table 4.4: steps (robust, p = 0.99; 20 episodes at T = 5000)",
        "T ",
        [(steps, {"steps": steps}, episodes, *thesis) for steps, episodes, *thesis in rows],
        origins,
    )
    rows = [
        (10, EPISODES, "500.0 (0.0)", "79.3"),
        (50, EPISODES, "467.8 (43.5)", "83.3"),
        (100, EPISODES, "462.2 (39.3)", "89.4"),
        (500, EPISODES, "438.0 (47.0)", "97.8"),
        (1000, EPISODES, "", "99.0"),
        (5000, 20, "", "99.6"),
    ]
    table = []
    for steps, episodes, *thesis in rows:
        network = convert(origins.gradient, states=origins.gradient_states, steps=steps)
        found = driven(origins.gradient, network, episodes)
        table.append((steps, thesis[0], found[0], thesis[1], found[1]))
    show(
        "Table 4.11: the policy gradient network (robust, p = 0.99; 20 episodes at T = 5000)",
        ["T ", "return, thesis ", "here ", "accuracy %, thesis ", "here "],
        table,
        machine(),
    )


TABLES = {"4.2": normalisation, "4.3": encodings, "4.4": durations}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=TABLES, nargs="+", default=list(TABLES))
    given = parser.parse_args()
    origins = Origins()
    for name in given.only:
        TABLES[name](origins)


if __name__ == "__main__":
    main()
