"""REINFORCE: a network learns probabilities of actions by the policy gradient, with normalised returns.

    python -m spikeloop.training.reinforce --env CartPole-v1 --seed 1 -o runs/reinforce

After each batch of episodes, the log-probability of every action taken is raised in proportion to the discounted
return that followed, less the mean and in units of the standard deviation. The defaults are those of the thesis *Deep
Spiking Q Networks* (2020), table B.2. The trained network decides by its largest output.

References
----------
Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine Learning
8, 1992.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..models.stimulus import FloatArray
from .architecture import build, mlp
from .arguments import parse_given, run_as_script
from .environment import SHAPINGS, Shaping, TrainingEnvironment
from .policy import Policy
from .presets import REINFORCE as PRESETS
from .runs import Run, generator_state, learnt, reproducible, restore_generator, summary, told
from .settings import EpisodicSettings, episode_seed, positive, resumed, within

REPLAY_STATES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(EpisodicSettings):
    """Train a conventional network by the policy gradient.

    Parameters
    ----------
    learning_rate : float
        Adam's.
    discount : float
        Of rewards, per step.
    episodes_per_update : int
        Episodes in a gradient step.
    """

    output: Path = Path("runs/reinforce")
    episodes: int = 2000
    learning_rate: float = 0.01
    discount: float = 0.99
    episodes_per_update: int = 1

    def __post_init__(self) -> None:
        super(Settings, self).__post_init__()
        positive(self, "episodes_per_update")
        within(self, 0.0, 1.0, "discount")
        within(self, 1e-12, 1e6, "learning_rate")


def train(settings: Settings, *, shaping: Shaping | None = None) -> dict[str, Any]:
    """Train; the run's folder holds the models. Returns the summary.

    Parameters
    ----------
    settings : Settings
    shaping : callable, optional
        From (reward, next observation) to the reward that is learnt from, in place of the settings' own.
    """
    reproducible(settings.seed, settings.threads)
    rng = np.random.default_rng(settings.seed)
    environment = TrainingEnvironment(
        settings.env,
        max_steps=settings.max_steps,
        frame_skip=settings.frame_skip,
        no_op_max=settings.no_op_max,
        shaping=shaping or SHAPINGS[settings.shaping],
    )
    architecture = mlp(environment.spaces.n_inputs, settings.hidden, environment.spaces.n_actions)
    policy = build(architecture)
    optimiser = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)
    visited: deque[tuple[NDArray[Any], int]] = deque(maxlen=REPLAY_STATES)
    batch: list[Episode] = []

    run = Run(
        "reinforce",
        settings,
        ("episode", "return", "length", "average", "loss"),
        score="average",
        score_from=min(settings.average_over, settings.episodes),
        target=settings.target_average,
        curve=("episode", "return", "average", "loss"),
        total=settings.episodes,
        note=("return", "average", "loss"),
    )
    with environment, run:
        if run.state is not None:
            with run.restoring():
                policy.load_state_dict(run.state["policy"])
                optimiser.load_state_dict(run.state["optimiser"])
                restore_generator(rng, run.state["rng"])
                visited.extend(zip(run.state["states"].numpy(), run.state["actions"].tolist(), strict=True))
                batch = [Episode.restored(kept) for kept in run.state["batch"]]

        def state() -> dict[str, Any]:
            states, actions = _arrays(visited, environment)
            return {
                "policy": policy.state_dict(),
                "optimiser": optimiser.state_dict(),
                "rng": generator_state(rng),
                "states": torch.from_numpy(states),
                "actions": torch.from_numpy(actions),
                "batch": [episode.state() for episode in batch],
            }

        for number in range(len(run.rows) + 1, settings.episodes + 1):
            if run.reached:
                break
            episode = play(policy, environment, episode_seed(settings.seed, number), rng)
            visited.extend(zip(episode.observations, episode.actions.tolist(), strict=True))
            batch.append(episode)
            loss = None
            if len(batch) == settings.episodes_per_update:
                loss = update(policy, optimiser, batch, settings.discount)
                batch = []

            best = run.log(
                **{"return": episode.total},
                episode=number,
                length=len(episode.actions),
                average=run.average(episode.total, settings.average_over),
                loss=loss,
            )
            if best:
                run.save_model("best", Policy(architecture, copy.deepcopy(policy)), **told(run.rows[-1]))
            if run.due():
                run.checkpoint(state())

        run.checkpoint(state())
        run.save_model("last", Policy(architecture, policy), **told(run.rows[-1]))
        run.save_replay(*_arrays(visited, environment))
        return run.finish(episodes=len(run.rows), **summary(run))


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """What was seen, done and got in an episode: [steps, n_inputs], [steps], [steps], and the environment's return."""

    observations: NDArray[Any]
    actions: NDArray[np.int64]
    rewards: FloatArray
    total: float

    def state(self) -> dict[str, Any]:
        """All of it, as torch can save it."""
        arrays = {"observations": self.observations, "actions": self.actions, "rewards": self.rewards}
        return {"total": self.total} | {name: torch.from_numpy(array) for name, array in arrays.items()}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Episode:
        """What `state` gave."""
        observations, actions, rewards = (state[name].numpy() for name in ("observations", "actions", "rewards"))
        return cls(observations, actions, rewards, state["total"])


def play(policy: nn.Module, environment: TrainingEnvironment, seed: int, rng: np.random.Generator) -> Episode:
    """Play an episode, with actions drawn from the policy's probabilities."""
    observation, over, total = environment.reset(seed), False, 0.0
    observations, actions, rewards = [], [], []
    while not over:
        with torch.no_grad():
            scores = policy(torch.from_numpy(observation)[None].float())[0].double().numpy()
        # The largest of scores with Gumbel noise is a draw from their softmax.
        action = int((scores - np.log(-np.log(rng.random(len(scores))))).argmax())
        step = environment.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(step.shaped)
        total += step.reward
        observation, over = step.observation, step.terminated or step.truncated
    return Episode(np.stack(observations), np.array(actions), np.array(rewards), total)


def update(policy: nn.Module, optimiser: Any, episodes: Sequence[Episode], discount: float) -> float:
    """One gradient step on some episodes; returns the loss."""
    returns = torch.from_numpy(np.concatenate([discounted(episode.rewards, discount) for episode in episodes])).float()
    if len(returns) > 1:
        returns = (returns - returns.mean()) / (returns.std() + torch.finfo(torch.float32).eps)
    states = torch.from_numpy(np.concatenate([episode.observations for episode in episodes])).float()
    actions = torch.from_numpy(np.concatenate([episode.actions for episode in episodes]))
    taken = policy(states).log_softmax(dim=1).gather(1, actions[:, None])[:, 0]
    loss = -(taken * returns).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return learnt(loss.item())


def discounted(rewards: FloatArray, discount: float) -> FloatArray:
    """The discounted sum of each step's reward and all that follow: [steps] for rewards [steps]."""
    returns, total = np.empty(len(rewards)), 0.0
    for t in range(len(rewards) - 1, -1, -1):
        total = rewards[t] + discount * total
        returns[t] = total
    return returns


def _arrays(
    visited: deque[tuple[NDArray[Any], int]], environment: TrainingEnvironment
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    states = np.array([state for state, _ in visited], dtype=environment.kind)
    return states.reshape(-1, environment.spaces.n_inputs), np.array([action for _, action in visited], dtype=np.int64)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train as the command line says."""
    settings, given = parse_given(Settings, "spikeloop train reinforce", argv, PRESETS)
    settings = resumed(settings, "reinforce", given)
    return {"folder": str(settings.output), **train(settings)}


if __name__ == "__main__":
    run_as_script(main)
