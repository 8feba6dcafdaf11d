"""Imitation: a spiking network learns to act as a teacher does, in the states that its own actions lead to (DAgger).

    python -m spikeloop.training.imitation --env CartPole-v1 --seed 1 -o cartpole.spk

Round 0 collects episodes of the teacher, later rounds episodes of the student; the teacher says what it would have done
in every state seen. In each round the network trains on all states so far. Kept is the round of the best mean return in
validation; among equals, the one that agrees most with the teacher. The student always acts as the exported network on
the reference target: what is judged is what will be deployed.

References
----------
Ross, Gordon and Bagnell, "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online Learning"
(DAgger), AISTATS 2011, algorithm 3.1.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import flatdim
from numpy.typing import NDArray

from .. import __version__
from ..errors import InvalidInputError, MissingPackageError, SpikeloopError
from ..models.file import save
from ..models.network import Network, Neuron
from ..models.stimulus import FloatArray
from .arguments import parse
from .evaluation import Policy, actions, evaluate, run_episodes, summary
from .teachers import Teacher, teacher_for

try:
    import torch
    from torch import Tensor
    from torch.nn.functional import cross_entropy

    from .spiking import SpikingStack, fold_standardisation
except ModuleNotFoundError:
    raise MissingPackageError.needs("Training", "PyTorch", "training") from None

SEEDS_PER_RUN = 1_000_000  # a run's training episodes are reset with seeds from here on, far from the evaluation's


@dataclass(frozen=True, slots=True)
class Settings:
    """Train a spiking network to imitate a teacher, and write it as a network file.

    Parameters
    ----------
    env : str
        The environment; it needs a teacher in `spikeloop.training.teachers`.
    seed : int
        Of weights, batches, exploration and training episodes. The same seed gives the same network, bit by bit, on
        the same machine with the same versions.
    output : Path, optional
        Where to write the network file; its stem becomes the network's name.
    hidden : tuple of int
        Neurons of each hidden layer.
    steps : int
        Length of a decision's window.
    threshold, membrane_decay, synapse_decay : float
        The neuron's; see `spikeloop.models.Neuron`.
    reset : "subtract" or "zero"
        What a spike does to the potential.
    surrogate_scale : float
        Steepness of the surrogate derivative at the threshold.
    rounds : int
        Of collecting, then training.
    episodes : int
        Collected in each round.
    explore : float
        Share of the actions drawn at random while collecting, so that states off the beaten track are seen.
    updates : int
        Gradient steps in each round.
    batch_size : int
        States in a gradient step.
    learning_rate : float
        Adam's, at the start of a round; it falls to 0 by a cosine until the round's end.
    margin : float
        The output potential by which the teacher's action should exceed every other.
    margin_weight : float
        Of the penalty for a smaller margin.
    validation_episodes : int
        Played after each round, to find the best.
    evaluation_episodes, evaluation_seed : int
        Episodes for the figures in the file, and the first one's seed.
    """

    env: str = "CartPole-v1"
    seed: int = 1
    output: Path | None = None
    hidden: tuple[int, ...] = (16, 16)
    steps: int = 10
    threshold: float = 1.0
    membrane_decay: float = 1.0
    synapse_decay: float = 0.0
    reset: Literal["subtract", "zero"] = "subtract"
    surrogate_scale: float = 10.0
    rounds: int = 6
    episodes: int = 20
    explore: float = 0.1
    updates: int = 1000
    batch_size: int = 256
    learning_rate: float = 0.01
    margin: float = 5.0
    margin_weight: float = 1.0
    validation_episodes: int = 50
    evaluation_episodes: int = 100
    evaluation_seed: int = 10_000

    def __post_init__(self) -> None:
        for name in ("rounds", "episodes", "updates", "batch_size", "validation_episodes", "evaluation_episodes"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it must be 1 or more.")


def train(settings: Settings, report: Callable[[str], None] = lambda line: None) -> Network:
    """Train, evaluate and return the network, with its provenance; one line per round goes to `report`."""
    teacher = teacher_for(settings.env)
    env = gymnasium.make(settings.env)
    n_inputs, n_actions = flatdim(env.observation_space), flatdim(env.action_space)
    rng = np.random.default_rng(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    first_seed = SEEDS_PER_RUN * (1 + settings.seed)
    validation_seed = first_seed + settings.rounds * settings.episodes

    neuron = Neuron(
        threshold=settings.threshold,
        reset=settings.reset,
        membrane_decay=settings.membrane_decay,
        synapse_decay=settings.synapse_decay,
    )
    sizes = (n_inputs, *settings.hidden, n_actions)
    stack = SpikingStack(sizes, settings.steps, neuron, surrogate_scale=settings.surrogate_scale, generator=generator)

    policy: Policy = teacher.actions
    seen: list[FloatArray] = []
    best: tuple[tuple[float, float], Network] | None = None
    for number in range(settings.rounds):
        collect = explorer(policy, settings.explore, n_actions, rng)
        seed = first_seed + number * settings.episodes
        seen.append(run_episodes(settings.env, collect, settings.episodes, seed).observations)
        states = np.concatenate(seen)
        # Round 0 alone says how observations are standardised: the weights learnt on it must keep their meaning.
        mean, deviation = seen[0].mean(axis=0), np.maximum(seen[0].std(axis=0), 1e-6)
        loss = fit(stack, (states - mean) / deviation, teacher.actions(states), settings, generator)
        network = fold_standardisation(stack.to_network(), mean, deviation)
        tried = evaluate(network, settings.env, settings.validation_episodes, validation_seed, teacher)
        report(
            f"round {number}: {len(states)} states, loss {loss:.4f}, return {tried['mean_return']:.2f} "
            f"(least {tried['min_return']:.0f}), agreement {tried['agreement_with_teacher']:.2%}, "
            f"margin {tried['margin_median']:.1f} (5 %: {tried['margin_p05']:.1f})"
        )
        score = tried["mean_return"], tried["agreement_with_teacher"]
        if best is None or score >= best[0]:
            best = score, network
        policy = partial(actions, network)

    assert best is not None
    name = settings.output.stem if settings.output else "unnamed"
    return replace(best[1], name=name, provenance=provenance(settings, best[1], teacher))


def explorer(policy: Policy, share: float, n_actions: int, rng: np.random.Generator) -> Policy:
    """`policy`, with a share of its actions drawn at random."""

    def explore(observations: FloatArray) -> NDArray[np.int64]:
        chosen = policy(observations)
        drawn = rng.integers(n_actions, size=len(chosen))
        return np.where(rng.random(len(chosen)) < share, drawn, chosen)

    return explore


def fit(
    stack: SpikingStack, inputs: FloatArray, labels: NDArray[np.int64], settings: Settings, generator: torch.Generator
) -> float:
    """One round's gradient steps, on inputs [n, n_inputs] and the teacher's actions [n]; returns the mean loss."""
    x, label = torch.from_numpy(inputs), torch.from_numpy(labels)
    optimiser = torch.optim.Adam(stack.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.updates)
    total = 0.0
    for _ in range(settings.updates):
        batch = torch.randint(len(x), (settings.batch_size,), generator=generator)
        loss = loss_of(stack(x[batch]), label[batch], settings)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        total += loss.item()
    return total / settings.updates


def loss_of(potentials: Tensor, label: Tensor, settings: Settings) -> Tensor:
    """Cross-entropy of the potentials [n, n_actions] plus the penalty for a small margin, averaged."""
    right = potentials.gather(1, label[:, None])
    others = potentials.scatter(1, label[:, None], -torch.inf).max(dim=1).values
    lacking = (settings.margin - (right[:, 0] - others)).clamp(min=0.0)
    return cross_entropy(potentials, label) + settings.margin_weight * lacking.mean()


def provenance(settings: Settings, network: Network, teacher: Teacher) -> dict[str, Any]:
    """Where the network came from and how good it is, as plain values."""
    hyperparameters = {name: value for name, value in asdict(settings).items() if name not in ("output", "seed")}
    taught = run_episodes(settings.env, teacher.actions, settings.evaluation_episodes, settings.evaluation_seed)
    return {
        "algorithm": "imitation of a teacher by dataset aggregation (DAgger)",
        "script": "spikeloop.training.imitation",
        "seed": settings.seed,
        "hyperparameters": hyperparameters | {"hidden": list(settings.hidden)},
        "teacher": {"description": teacher.description, **summary(taught.returns)},
        "evaluation": evaluate(network, settings.env, settings.evaluation_episodes, settings.evaluation_seed, teacher),
        "versions": {
            "spikeloop": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "gymnasium": gymnasium.__version__,
            "python": platform.python_version(),
        },
    }


def main() -> None:
    """Train as the command line says."""
    settings = parse(Settings, "python -m spikeloop.training.imitation")
    if settings.output is None or not settings.output.parent.is_dir():
        raise InvalidInputError(f"The output is {settings.output}; give a file in a folder that exists: -o agent.spk")
    torch.set_num_threads(1)  # the network is small; more threads only wait for each other
    torch.use_deterministic_algorithms(True)
    network = train(settings, report=print)
    save(network, settings.output)
    facts = network.provenance
    print(f"teacher: {facts['teacher']['mean_return']:.2f}; {facts['teacher']['description']}")
    print({name: value for name, value in facts["evaluation"].items() if name != "returns"})
    print(f"wrote {settings.output}: {network!r}")


if __name__ == "__main__":
    try:
        main()
    except SpikeloopError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
