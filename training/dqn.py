"""DQN: a network learns the value of each action by Q-learning, from a replay memory, towards a target network.

    python -m spikeloop.training.dqn --env CartPole-v1 --seed 1 -o runs/dqn

The defaults are those of the thesis *Deep Spiking Q Networks* (2020), tables B.3 and B.8; `PRESETS` has what differs
between environments. `learn` is the algorithm for any network: `spikeloop.training.dsqn` calls it with a spiking one.

References
----------
Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015: the algorithm.
van Hasselt, Guez and Silver, "Deep Reinforcement Learning with Double Q-learning", AAAI 2016: `double`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, smooth_l1_loss

from ..errors import InvalidInputError
from ..models.network import Network
from .architecture import Scale, build, mlp, mnih
from .arguments import parse_given, run_as_script
from .environment import SHAPINGS, Shaping, TrainingEnvironment
from .policy import Policy
from .presets import DQN as PRESETS
from .replay import ReplayMemory
from .runs import MOST_REPLAY_BYTES, Run, generator_state, learnt, reproducible, restore_generator, summary, told
from .settings import EpisodicSettings, episode_seed, positive, resumed, unused, within

REPLAY_STATES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QSettings(EpisodicSettings):
    """What every kind of deep Q-learning can be told.

    Parameters
    ----------
    input_scale : float
        Observations are multiplied by it first.
    optimiser : "adam" or "rmsprop"
        The latter with alpha 0.95 and epsilon 0.001.
    learning_rate : float
        The optimiser's.
    discount : float
        Of the value of what follows, per step.
    double : bool
        The policy network chooses the next action, the target network values it (double Q-learning).
    loss : "mse" or "huber"
        Of the difference between a value and its target.
    clip : float
        Each component of the gradient is held within plus and minus this; 0 for no limit.
    epsilon_start, epsilon_end : float
        Share of random actions, at first and in the end.
    epsilon_schedule : "exponential" or "linear"
        How the share falls.
    epsilon_steps : int
        After how many steps it has fallen to the end.
    memory_size : int
        Transitions in the replay memory.
    initial_memory : int
        Transitions before learning begins; a batch, if that is more.
    batch_size : int
        Transitions in a gradient step.
    update_every : int
        Steps between gradient steps.
    target_unit : "episodes" or "steps"
        What `target_every` counts.
    target_every : int
        When the target network becomes a copy of the policy network.
    """

    input_scale: float = 1.0
    optimiser: Literal["adam", "rmsprop"] = "adam"
    learning_rate: float = 0.001
    discount: float = 0.99
    double: bool = True
    loss: Literal["mse", "huber"] = "mse"
    clip: float = 1.0
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_schedule: Literal["exponential", "linear"] = "exponential"
    epsilon_steps: int = 2994  # 0.999 a step
    memory_size: int = 40_000
    initial_memory: int = 0
    batch_size: int = 128
    update_every: int = 1
    target_unit: Literal["episodes", "steps"] = "episodes"
    target_every: int = 10

    def __post_init__(self) -> None:
        super(QSettings, self).__post_init__()
        positive(self, "epsilon_steps", "memory_size", "batch_size", "update_every", "target_every")
        within(self, 0.0, 1.0, "epsilon_start", "epsilon_end", "discount")
        within(self, 0.0, 1e9, "clip", "initial_memory")
        within(self, 1e-12, 1e6, "learning_rate", "input_scale")
        if self.epsilon_end > self.epsilon_start or (self.epsilon_schedule == "exponential" and self.epsilon_end == 0):
            raise InvalidInputError(
                f"epsilon_end is {self.epsilon_end}; it must not exceed epsilon_start, and be above 0 with the "
                "exponential schedule."
            )
        if max(self.initial_memory, self.batch_size) > self.memory_size:
            raise InvalidInputError(
                f"memory_size is {self.memory_size}; it must hold a batch ({self.batch_size}) and the initial memory "
                f"({self.initial_memory})."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(QSettings):
    """Train a conventional network by deep Q-learning.

    Parameters
    ----------
    network : "mlp" or "mnih"
        Linear layers with ReLU (see `hidden`), or the convolutional network of Mnih et al. for images of 4 x 84 x 84.
    """

    output: Path = Path("runs/dqn")
    network: Literal["mlp", "mnih"] = "mlp"

    def __post_init__(self) -> None:
        super(Settings, self).__post_init__()
        if self.network == "mnih":
            unused(self, "on the network 'mnih'", "hidden", "input_scale")


@dataclass(frozen=True, slots=True)
class Learner:
    """A network that learns values, and how it becomes a model.

    Attributes
    ----------
    module : torch.nn.Module
        From observations [n, n_inputs] to values [n, n_actions].
    export : callable
        The model that its present parameters are.
    parameters : sequence of Tensor
        Those that are learnt.
    """

    module: nn.Module
    export: Callable[[], Policy | Network]
    parameters: Sequence[Tensor] = field(default=())


def train(settings: Settings, *, shaping: Shaping | None = None) -> dict[str, Any]:
    """Train; the run's folder holds the models. Returns the summary.

    Parameters
    ----------
    settings : Settings
    shaping : callable, optional
        From (reward, next observation) to the reward that is learnt from, in place of the settings' own.
    """
    return learn(settings, "dqn", _learner, shaping)


def _learner(settings: Settings, n_inputs: int, n_actions: int) -> Learner:
    if settings.network == "mnih":
        architecture = mnih(n_actions)
        if architecture.n_inputs != n_inputs:
            raise InvalidInputError(
                f"The network 'mnih' reads images of 4 x 84 x 84; {settings.env} observes {n_inputs} values: use "
                "spikeloop/BreakoutMnih-v0, or the network 'mlp'."
            )
    else:
        architecture = mlp(n_inputs, settings.hidden, n_actions)
        if settings.input_scale != 1.0:
            layers = (Scale(factor=settings.input_scale), *architecture.layers)
            architecture = architecture.model_copy(update={"layers": layers})
    module = build(architecture)
    shaped = nn.Sequential(nn.Unflatten(1, architecture.input_shape), module)
    return Learner(shaped, lambda: Policy(architecture, copy.deepcopy(module)), tuple(module.parameters()))


def learn(
    settings: Any,
    algorithm: str,
    learner_for: Callable[[Any, int, int], Learner],
    shaping: Shaping | None = None,
) -> dict[str, Any]:
    """Q-learning, from the first episode or the last checkpoint to the end."""
    reproducible(settings.seed, settings.threads)
    rng = np.random.default_rng(settings.seed)
    environment = TrainingEnvironment(
        settings.env,
        max_steps=settings.max_steps,
        frame_skip=settings.frame_skip,
        no_op_max=settings.no_op_max,
        shaping=shaping or SHAPINGS[settings.shaping],
    )
    n_inputs, n_actions = environment.spaces.n_inputs, environment.spaces.n_actions
    learner = learner_for(settings, n_inputs, n_actions)
    policy, target = learner.module, copy.deepcopy(learner.module)
    optimiser = _optimiser(learner.parameters, settings)
    memory = ReplayMemory(settings.memory_size, n_inputs, environment.kind)
    steps = 0

    run = Run(
        algorithm,
        settings,
        ("episode", "steps", "return", "length", "average", "loss", "epsilon"),
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
                target.load_state_dict(run.state["target"])
                optimiser.load_state_dict(run.state["optimiser"])
                memory.restore(run.state["memory"])
                restore_generator(rng, run.state["rng"])
                steps = int(run.state["steps"])

        def state() -> dict[str, Any]:
            return {
                "policy": policy.state_dict(),
                "target": target.state_dict(),
                "optimiser": optimiser.state_dict(),
                "memory": memory.state(),
                "rng": generator_state(rng),
                "steps": steps,
            }

        for episode in range(len(run.rows) + 1, settings.episodes + 1):
            if run.reached:
                break
            observation = environment.reset(episode_seed(settings.seed, episode))
            total, length, losses, over = 0.0, 0, [], False
            while not over:
                if rng.random() < epsilon(settings, steps):
                    action = int(rng.integers(n_actions))
                else:
                    with torch.no_grad():
                        action = int(policy(torch.from_numpy(observation)[None].float()).argmax())
                step = environment.step(action)
                # An episode that is cut off does not end there: what would have followed still has a value.
                memory.push(observation, action, step.shaped, step.observation, step.terminated)
                observation = step.observation
                over = step.terminated or step.truncated
                total, length, steps = total + step.reward, length + 1, steps + 1
                if (
                    len(memory) >= max(settings.batch_size, settings.initial_memory)
                    and steps % settings.update_every == 0
                ):
                    losses.append(update(policy, target, optimiser, memory.sample(rng, settings.batch_size), settings))
                if settings.target_unit == "steps" and steps % settings.target_every == 0:
                    target.load_state_dict(policy.state_dict())
            if settings.target_unit == "episodes" and episode % settings.target_every == 0:
                target.load_state_dict(policy.state_dict())

            best = run.log(
                **{"return": total},
                episode=episode,
                steps=steps,
                length=length,
                average=run.average(total, settings.average_over),
                loss=float(np.mean(losses)) if losses else None,
                epsilon=epsilon(settings, steps),
            )
            if best:
                run.save_model("best", learner.export(), **told(run.rows[-1]))
            if run.due():
                run.checkpoint(state())

        run.checkpoint(state())
        run.save_model("last", learner.export(), **told(run.rows[-1]))
        bytes_of_a_state = n_inputs * np.dtype(environment.kind).itemsize
        run.save_replay(*memory.latest(min(REPLAY_STATES, MOST_REPLAY_BYTES // bytes_of_a_state)))
        return run.finish(episodes=len(run.rows), steps=steps, **summary(run))


def epsilon(settings: Any, steps: int) -> float:
    """Share of random actions after `steps` steps."""
    start, end, passed = settings.epsilon_start, settings.epsilon_end, min(steps / settings.epsilon_steps, 1.0)
    if settings.epsilon_schedule == "linear":
        return float(start + (end - start) * passed)
    return float(start * (end / start) ** passed)


def update(policy: nn.Module, target: nn.Module, optimiser: Any, batch: Sequence[Tensor], settings: Any) -> float:
    """One gradient step on a batch of transitions; returns the loss."""
    states, actions, rewards, next_states, ends = batch
    with torch.no_grad():
        following = target(next_states)
        chosen = policy(next_states) if settings.double else following
        worth = following.gather(1, chosen.argmax(1, keepdim=True))[:, 0]
        wanted = rewards + settings.discount * worth * ~ends
    values = policy(states).gather(1, actions[:, None])[:, 0]
    loss = (mse_loss if settings.loss == "mse" else smooth_l1_loss)(values, wanted)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if settings.clip:
        for group in optimiser.param_groups:
            nn.utils.clip_grad_value_(group["params"], settings.clip)
    optimiser.step()
    return learnt(loss.item())


def _optimiser(parameters: Sequence[Tensor], settings: Any) -> Any:
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
    return torch.optim.RMSprop(parameters, lr=settings.learning_rate, alpha=0.95, eps=0.001)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train as the command line says."""
    settings, given = parse_given(Settings, "spikeloop train dqn", argv, PRESETS)
    settings = resumed(settings, "dqn", given)
    return {"folder": str(settings.output), **train(settings)}


if __name__ == "__main__":
    run_as_script(main)
