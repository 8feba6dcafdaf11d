"""Classifiers: a network learns which action a teacher takes in given states, conventional or spiking.

    python -m spikeloop.training.classify --teacher runs/dqn --states runs/dqn/replay.npz --spiking -o runs/classifier

The indirect conversion of the thesis *Deep Spiking Q Networks* (2020): a classifier of a DQN's decisions converts
better than the DQN, whose values lie close together; and a spiking classifier needs no conversion. The defaults are
those of the thesis' table B.1. Unlike in `spikeloop.training.distil`, the states are given: no environment is needed.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from ..errors import InvalidInputError
from ..models.network import Network
from ..models.stimulus import FloatArray
from ..runtime.fidelity import load_observations
from .architecture import build, mlp
from .arguments import parse_given, run_as_script
from .conversion import usable_states
from .policy import Policy
from .runs import Run, generator_state, learnt, reproducible, restore_generator
from .settings import checked, positive, resumed, unused, within
from .spiking_policy import SpikingPolicy, SpikingSettings
from .teachers import load_teacher, teacher_facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(SpikingSettings):
    """Train a classifier of a teacher's decisions, conventional or spiking.

    Parameters
    ----------
    teacher : str
        Who says what to do: a run's folder, a policy file, a Stable-Baselines3 zip, a network file, or a bundled agent.
    states : Path
        Observations [n, n_inputs]: an .npy file, or an .npz file such as a run's replay.npz.
    seed : int
        Of weights, batches and held-out states. The same seed gives the same network, bit by bit, on the same machine
        with the same versions.
    output : Path
        The run's folder; it must not hold anything yet.
    resume : bool
        Go on with the run that is in the folder.
    spiking : bool
        Train a spiking network by surrogate gradients.
    hidden : tuple of int, optional
        Neurons of each hidden layer; 16 and 16 unless given, and one more each in a spiking network.
    updates : int
        Gradient steps.
    batch_size : int
        States in a gradient step.
    learning_rate : float
        Adam's.
    held_out : float
        Share of the states that is not trained on, but decides which network is best.
    log_every : int
        Gradient steps between rows of metrics.csv.
    input_scale : float
        What a spiking network multiplies observations by first.
    """

    teacher: str = ""
    states: Path = Path()
    seed: int = 1
    output: Path = Path("runs/classify")
    resume: bool = False
    spiking: bool = False
    hidden: tuple[int, ...] | None = None
    updates: int = 200_000
    batch_size: int = 50
    learning_rate: float = 0.0001
    held_out: float = 0.1
    log_every: int = 1000
    input_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.resume and (not self.teacher or self.states == Path()):
            raise InvalidInputError("A classifier needs --teacher, who says what to do, and --states, where to do it.")
        if self.hidden is None:
            object.__setattr__(self, "hidden", (17, 17) if self.spiking else (16, 16))
        checked(self)
        if not self.spiking:
            unused(self, "without --spiking", *(field.name for field in fields(SpikingSettings)), "input_scale")
        positive(self, "updates", "batch_size", "log_every")
        within(self, 0.0, 0.9, "held_out")
        within(self, 1e-12, 1e6, "learning_rate", "input_scale")
        self.check_spiking()


def train(settings: Settings) -> dict[str, Any]:
    """Train; the run's folder holds the models. Returns the summary."""
    states, labels, n_actions, facts = _examples(settings)
    reproducible(settings.seed)
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(len(states))
    n_held = int(settings.held_out * len(states))
    x, y = torch.from_numpy(states).float(), torch.from_numpy(labels)
    held, used = order[:n_held], order[n_held:]
    module: nn.Module
    assert settings.hidden is not None
    if settings.spiking:
        module = SpikingPolicy(settings, states.shape[1], n_actions)
    else:
        architecture = mlp(states.shape[1], settings.hidden, n_actions)
        module = build(architecture)

    def export() -> Policy | Network:
        if isinstance(module, SpikingPolicy):
            return module.to_network()
        return Policy(architecture, copy.deepcopy(module))

    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=settings.learning_rate)
    run = Run(
        "classify",
        settings,
        ("update", "loss", "accuracy", "validation_accuracy"),
        score="validation_accuracy" if n_held else "accuracy",
        curve=("update", "accuracy", "validation_accuracy", "loss"),
        total=-(-settings.updates // settings.log_every),
        note=("loss", "accuracy", "validation_accuracy"),
    )
    with run:
        if run.state is not None:
            if run.state.get("examples") != _identity(facts):
                raise InvalidInputError(
                    f"The run in {run.folder} had another teacher, or other states, under the same names: put back "
                    "what it began with, or begin anew."
                )
            with run.restoring():
                module.load_state_dict(run.state["module"])
                optimiser.load_state_dict(run.state["optimiser"])
                restore_generator(rng, run.state["rng"])

        def state() -> dict[str, Any]:
            return {
                "examples": _identity(facts),
                "module": module.state_dict(),
                "optimiser": optimiser.state_dict(),
                "rng": generator_state(rng),
            }

        done = int(run.rows[-1]["update"]) if run.rows else 0
        while done < settings.updates:
            losses, right = 0.0, 0
            count = min(settings.log_every, settings.updates - done)
            for _ in range(count):
                batch = used[rng.integers(len(used), size=settings.batch_size)]
                values = module(x[batch])
                loss = cross_entropy(values, y[batch])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                losses += learnt(loss.item())
                right += int((values.argmax(1) == y[batch]).sum())
            done += count
            best = run.log(
                update=done,
                loss=losses / count,
                accuracy=right / (count * settings.batch_size),
                validation_accuracy=_accuracy(module, x[held], y[held]) if n_held else None,
            )
            if best:
                run.save_model("best", export(), **facts, **_told(run.rows[-1]))
            if run.due():
                run.checkpoint(state())
        run.checkpoint(state())
        run.save_model("last", export(), **facts, **_told(run.rows[-1]))
        assert run.best is not None, "every row has a score"
        return run.finish(
            updates=done,
            states=len(states),
            best_at_update=run.best["update"],
            accuracy=run.best["accuracy"],
            validation_accuracy=run.best["validation_accuracy"],
        )


def _examples(settings: Settings) -> tuple[FloatArray, NDArray[np.int64], int, dict[str, Any]]:
    """States [n, n_inputs], the teacher's actions there, how many actions there are, and where all this comes from."""
    states = load_observations(settings.states)
    teacher = load_teacher(settings.teacher)
    states = usable_states(states, teacher.n_inputs)
    labels = np.concatenate([teacher.actions(part) for part in np.array_split(states, -(-len(states) // 1000))])
    facts = {
        "teacher": teacher_facts(teacher),
        "states": {"count": len(states), "sha256": hashlib.sha256(states.tobytes()).hexdigest()},
    }
    return states, labels, teacher.n_actions, facts


def _identity(facts: Mapping[str, Any]) -> str:
    return f"{facts['teacher']['sha256']} {facts['states']['sha256']}"


def _accuracy(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        return float((module(x).argmax(1) == y).float().mean())


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {"kept": {name: row[name] for name in ("update", "accuracy", "validation_accuracy")}}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train as the command line says."""
    settings, given = parse_given(Settings, "spikeloop train classify", argv)
    settings = resumed(settings, "classify", given)
    return {"folder": str(settings.output), **train(settings)}


if __name__ == "__main__":
    run_as_script(main)
