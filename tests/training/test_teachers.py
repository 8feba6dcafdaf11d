"""Teachers are computed from the right dynamics and reach their returns."""

import hashlib
import shutil

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from spikeloop.errors import EnvironmentMismatchError, NetworkFileError, UnknownNameError
from spikeloop.models import bundled, load
from spikeloop.training.evaluation import actions, run_episodes
from spikeloop.training.teachers import (
    linearised_cartpole,
    load_teacher,
    mountain_car,
    riccati,
    teacher_facts,
    teacher_for,
    teacher_from,
)


def test_cartpole_teacher_balances_to_the_end():
    ran = run_episodes("CartPole-v1", teacher_for("CartPole-v1").actions, 10, 500)
    assert ran.returns.tolist() == [500.0] * 10
    assert ran.observations.shape == (5000, 4)


def test_mountain_car_teacher_takes_the_shortest_way():
    ran = run_episodes("MountainCar-v0", teacher_for("MountainCar-v0").actions, 30, 500)
    assert ran.returns.mean() > -102
    assert ran.returns.min() > -110


def test_linearisation_is_the_environments_derivative():
    env = CartPoleEnv()
    env.reset(seed=0)
    A, B = linearised_cartpole(env)

    def step(state, force):
        env.state, env.force_mag = state, force
        env.steps_beyond_terminated = None
        env.step(1)
        return env.state

    small = 1e-5
    columns = [(step(small * unit, 0.0) - step(-small * unit, 0.0)) / (2 * small) for unit in np.eye(4)]
    push = (step(np.zeros(4), small) - step(np.zeros(4), -small)) / (2 * small)
    np.testing.assert_allclose(np.stack(columns, axis=1), A, atol=1e-9)
    np.testing.assert_allclose(push, B[:, 0], atol=1e-9)


def test_riccati_of_one_dimension_is_the_golden_ratio():
    one = np.ones((1, 1))
    np.testing.assert_allclose(riccati(one, one, one, 1.0), (np.sqrt(5) - 1) / 2, rtol=1e-9)


def test_mountain_car_dynamics_are_the_environments():
    env = gymnasium.make("MountainCar-v0").unwrapped
    env.reset(seed=0)
    rng = np.random.default_rng(1)
    states = rng.uniform([-1.2, -0.07], [0.6, 0.07], (300, 2))
    states[:50, 0] = rng.uniform(-1.2, -1.15, 50)  # the wall
    for action in range(3):
        expected = []
        for state in states:
            env.state = tuple(state)
            env.step(action)
            expected.append(env.state)
        actual = np.stack(mountain_car(*states.T, action), axis=1)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-15)


def test_a_spiking_network_teaches_what_it_does_on_the_reference():
    teacher = load_teacher("mountaincar")
    states = np.random.default_rng(3).normal(size=(200, 2)) * [0.6, 0.04]
    assert teacher.actions(states).tolist() == actions(load("mountaincar"), states).tolist()
    assert (teacher.n_inputs, teacher.n_actions) == (2, 3)
    assert teacher.sha256 == hashlib.sha256(teacher.path.read_bytes()).hexdigest()
    assert teacher_facts(teacher) == {
        "source": str(teacher.path),
        "sha256": teacher.sha256,
        "description": f"spiking network 'mountaincar' on the reference, hash {load('mountaincar').content_hash[:12]}",
    }


def test_a_folder_stands_for_its_best_network(tmp_path):
    for name, agent in (("last.spk", "mountaincar"), ("best.spk", "cartpole")):
        shutil.copy(bundled()[agent], tmp_path / name)
        assert load_teacher(tmp_path).path == tmp_path / name
    with pytest.raises(NetworkFileError, match="is a folder with none of"):
        load_teacher(tmp_path.parent)


def test_files_that_cannot_teach(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(NetworkFileError, match=r"text\.pt"):
        load_teacher(tmp_path / "text.pt")
    with pytest.raises(UnknownNameError, match="no file or bundled agent"):
        load_teacher(tmp_path / "absent.pt")
    with pytest.raises(EnvironmentMismatchError, match="takes 2 values and chooses from 3 actions"):
        teacher_from("mountaincar", "CartPole-v1", 4, 2)
    assert teacher_facts(teacher_from("computed", "CartPole-v1", 4, 2))["source"] == "computed"


def test_unknown_environment():
    with pytest.raises(UnknownNameError, match="Did you mean CartPole-v1"):
        teacher_for("CartPole-v0")
