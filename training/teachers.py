"""Teachers: whom an agent can imitate. The computed controllers here are not trained and draw no random number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv
from numpy.typing import NDArray

from ..errors import EnvironmentMismatchError, UnknownNameError
from ..models import file
from ..models.loading import load
from ..models.stimulus import FloatArray
from ..runtime.agent import launch
from .storage import model_file

COMPUTED = "computed"

# The classic-control environments return their state as float32; that rounding is all that a teacher does not see.


class Teacher(Protocol):
    """Says what to do in a state."""

    @property
    def description(self) -> str:
        """What it is and how it was computed, in one sentence."""

    def actions(self, observations: FloatArray) -> NDArray[np.int64]:
        """The action for each state: [n] for observations [n, n_inputs]."""


def teacher_for(env_id: str) -> Teacher:
    """The teacher of an environment.

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    if env_id not in TEACHERS:
        advice = "A trained network can teach too: --teacher FILE."
        raise UnknownNameError.among("computed teacher for the environment", env_id, TEACHERS, advice)
    return TEACHERS[env_id]()


@dataclass(frozen=True, slots=True, eq=False)
class TrainedTeacher:
    """A network that teaches: a conventional one, or a spiking one on the reference.

    Attributes
    ----------
    decide : callable
        The actions [n] for observations [n, n_inputs].
    description : str
    n_inputs, n_actions : int
        What it takes and chooses from.
    path : Path
        The file that it was loaded from.
    sha256 : str
        Of the file, hex.
    """

    decide: Callable[[FloatArray], NDArray[np.int64]]
    description: str
    n_inputs: int
    n_actions: int
    path: Path
    sha256: str

    def actions(self, observations: FloatArray) -> NDArray[np.int64]:
        """The action for each state: [n] for observations [n, n_inputs]."""
        return self.decide(observations)


def load_teacher(source: str | Path) -> TrainedTeacher:
    """Load a network that teaches.

    Parameters
    ----------
    source : str or Path
        A file of a conventional network as `policy.load_policy` reads it, a network file or a bundled agent's name, or
        a training run's folder.

    Raises
    ------
    UnknownNameError
        If there is no such file or agent.
    NetworkFileError
        If the file cannot be read.
    """
    path = model_file(source)
    if not path.is_file():
        load(path)  # which says what is wrong with it
    data = file.read(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if not file.is_network_file(data):
        from .policy import load_policy  # which needs torch

        policy = load_policy(path)
        return TrainedTeacher(policy.actions, policy.description, policy.n_inputs, policy.n_actions, path, sha256)
    network = load(path)
    agent = launch(network)

    def decide(observations: FloatArray) -> NDArray[np.int64]:
        return np.asarray(agent.decide(observations).action)

    description = f"spiking network '{network.name}' on the reference, hash {network.content_hash[:12]}"
    return TrainedTeacher(decide, description, network.n_inputs, network.n_outputs, path, sha256)


def teacher_from(source: str, env_id: str, n_inputs: int, n_actions: int) -> Teacher:
    """The teacher that `source` names, for an environment of `n_inputs` values and `n_actions` actions.

    Parameters
    ----------
    source : str
        "computed" (see `teacher_for`), or as `load_teacher` takes it.

    Raises
    ------
    EnvironmentMismatchError
        If the teacher does not fit the environment.
    SpikeloopError
        As `teacher_for` and `load_teacher` raise them.
    """
    if source == COMPUTED:
        return teacher_for(env_id)
    teacher = load_teacher(source)
    if (teacher.n_inputs, teacher.n_actions) != (n_inputs, n_actions):
        raise EnvironmentMismatchError(
            f"The teacher {teacher.path} takes {teacher.n_inputs} values and chooses from {teacher.n_actions} actions; "
            f"environment '{env_id}' observes {n_inputs} and has {n_actions}: name a teacher that was trained for it."
        )
    return teacher


def teacher_facts(teacher: Teacher) -> dict[str, str]:
    """What the provenance of a network says of its teacher, as plain values."""
    if isinstance(teacher, TrainedTeacher):
        return {"source": str(teacher.path), "sha256": teacher.sha256, "description": teacher.description}
    return {"source": COMPUTED, "description": teacher.description}


@dataclass(frozen=True, slots=True, eq=False)
class CartPoleTeacher:
    """A linear-quadratic regulator for CartPole-v1, held to the two forces that the environment offers.

    The regulator's cost of a force ``u`` in state ``s`` exceeds the least one by a multiple of ``(u + gain @ s)**2``.
    Of two opposite forces the cheaper one is therefore that of the wanted force's sign.

    Parameters
    ----------
    gain : float64 [4]
        The regulator's force is ``-gain @ s``.
    """

    gain: FloatArray

    @property
    def description(self) -> str:
        """What it is and how it was computed, in one sentence."""
        gain = ", ".join(f"{value:.3f}" for value in self.gain)
        return (
            f"discrete-time linear-quadratic regulator of the cart-pole linearised about upright, gain [{gain}], "
            "of whose force the sign is taken"
        )

    def actions(self, observations: FloatArray) -> NDArray[np.int64]:
        """1 (push right) where the wanted force is positive, else 0: [n] for observations [n, 4]."""
        return (observations @ self.gain < 0.0).astype(np.int64)

    @classmethod
    def solve(cls) -> CartPoleTeacher:
        """Linearise about the upright pole and solve the discrete algebraic Riccati equation.

        State and force are weighted by the inverse squares of their limits (Bryson's rule). The velocities, which
        have no limit, count like 1 m/s and 1 rad/s.
        """
        env = CartPoleEnv()
        A, B = linearised_cartpole(env)
        limits = np.array([env.x_threshold, 1.0, env.theta_threshold_radians, 1.0])
        Q, R = np.diag(limits**-2.0), env.force_mag**-2.0
        return cls(riccati(A, B, Q, R))


def linearised_cartpole(env: CartPoleEnv) -> tuple[FloatArray, FloatArray]:
    """A step of the environment for small angles: A [4, 4] and B [4, 1] of ``s' = A s + B force``.

    In the environment's equations of motion, sin(theta) = theta, cos(theta) = 1 and theta_dot**2 = 0.

    References
    ----------
    Florian, *Correct equations for the dynamics of the cart-pole system*, 2007, which the environment follows.
    """
    inertia = env.length * (4.0 / 3.0 - env.masspole / env.total_mass)
    lever = env.polemass_length / env.total_mass
    falling = env.gravity / inertia  # angular acceleration per angle
    tilting = -1.0 / env.total_mass / inertia  # angular acceleration per force
    rates = np.zeros((4, 4))
    rates[0, 1] = rates[2, 3] = 1.0
    rates[1, 2], rates[3, 2] = -lever * falling, falling
    pushes = np.array([[0.0], [1.0 / env.total_mass - lever * tilting], [0.0], [tilting]])
    return np.eye(4) + env.tau * rates, env.tau * pushes


def riccati(A: FloatArray, B: FloatArray, Q: FloatArray, R: float) -> FloatArray:
    """Solve the discrete-time linear-quadratic problem of one input by iterating the Riccati equation.

    Parameters
    ----------
    A : float64 [n, n], B : float64 [n, 1]
        ``s' = A s + B u``.
    Q : float64 [n, n], R : float
        Cost of a step: ``s Q s + R u**2``.

    Returns
    -------
    gain : float64 [n]
        The best input is ``u = -gain @ s``.

    References
    ----------
    Bertsekas, *Dynamic Programming and Optimal Control*, vol. 1, section 4.1.
    """
    P = Q
    for _ in range(100_000):
        gain = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
        following = Q + A.T @ P @ (A - B @ gain)
        settled = np.abs(following - P).max() <= 1e-12 * np.abs(following).max()
        P = following
        if settled:
            break
    return np.asarray(gain[0])


@dataclass(frozen=True, slots=True, eq=False)
class MountainCarTeacher:
    """The shortest way to MountainCar-v0's goal, by value iteration on a grid.

    The dynamics are the environment's own, without approximation; the number of steps to the goal is interpolated
    (bilinearly) between the nodes of a grid over positions -1.2 to 0.5 and velocities -0.07 to 0.07.

    Parameters
    ----------
    steps_to_goal : float64 [positions, velocities]
    """

    steps_to_goal: FloatArray

    @property
    def description(self) -> str:
        """What it is and how it was computed, in one sentence."""
        positions, velocities = self.steps_to_goal.shape
        return f"value iteration on the exact dynamics, {positions} x {velocities} grid, bilinear interpolation"

    def actions(self, observations: FloatArray) -> NDArray[np.int64]:
        """The action after which the goal is nearest: [n] for observations [n, 2]."""
        shape = self.steps_to_goal.shape
        position, velocity = observations.T
        reached = [_corners(shape, *mountain_car(position, velocity, action)) for action in range(3)]
        return np.asarray(np.argmin(_following(self.steps_to_goal.ravel(), reached, shape[1]), axis=0))

    @classmethod
    def solve(cls, positions: int = 341, velocities: int = 281, tolerance: float = 1e-6) -> MountainCarTeacher:
        """Iterate until no node's number of steps changes by more than `tolerance`; about 3 s for the default grid."""
        shape = positions, velocities
        nodes = np.meshgrid(np.linspace(-1.2, 0.5, positions), np.linspace(-0.07, 0.07, velocities), indexing="ij")
        position, velocity = nodes[0].ravel(), nodes[1].ravel()
        reached = [_corners(shape, *mountain_car(position, velocity, action)) for action in range(3)]
        steps = np.zeros(positions * velocities)
        while True:
            following = 1.0 + _following(steps, reached, velocities).min(axis=0)
            settled = np.abs(following - steps).max() <= tolerance
            steps = following
            if settled:
                return cls(steps.reshape(shape))


def mountain_car(position: FloatArray, velocity: FloatArray, action: int) -> tuple[FloatArray, FloatArray]:
    """One step of MountainCar-v0 for many cars: the new positions and velocities.

    References
    ----------
    Moore, *Efficient Memory-based Learning for Robot Control*, 1990; as in gymnasium's ``mountain_car.py``.
    """
    velocity = np.clip(velocity + (action - 1) * 0.001 - 0.0025 * np.cos(3.0 * position), -0.07, 0.07)
    position = np.clip(position + velocity, -1.2, 0.6)
    return position, np.where((position == -1.2) & (velocity < 0.0), 0.0, velocity)


# Of points on a grid: the flat index of the node below, the place in its cell, and 0 where the goal is reached, else 1.
_Points = tuple[NDArray[np.int64], FloatArray, FloatArray, FloatArray]


def _corners(shape: tuple[int, ...], position: FloatArray, velocity: FloatArray) -> _Points:
    row = np.clip((position + 1.2) / 1.7 * (shape[0] - 1), 0.0, shape[0] - 1.0)
    column = np.clip((velocity + 0.07) / 0.14 * (shape[1] - 1), 0.0, shape[1] - 1.0)
    i = np.minimum(row.astype(np.int64), shape[0] - 2)
    j = np.minimum(column.astype(np.int64), shape[1] - 2)
    moving = ~((position >= 0.5) & (velocity >= 0.0))
    return i * shape[1] + j, row - i, column - j, moving.astype(np.float64)


def _following(values: FloatArray, reached: list[_Points], width: int) -> FloatArray:
    """The interpolated value of the points that each action leads to: [actions, points]."""
    ways = []
    for node, x, y, moving in reached:
        low = (1.0 - y) * values[node] + y * values[node + 1]
        high = (1.0 - y) * values[node + width] + y * values[node + width + 1]
        ways.append(moving * ((1.0 - x) * low + x * high))
    return np.stack(ways)


TEACHERS: dict[str, Callable[[], Teacher]] = {
    "CartPole-v1": CartPoleTeacher.solve,
    "MountainCar-v0": MountainCarTeacher.solve,
}
