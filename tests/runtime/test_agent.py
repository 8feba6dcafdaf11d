"""The agent: decisions, batches, spike trains, random encodings."""

from pathlib import Path

import numpy as np
import pytest
import spikeloop
from spikeloop.deploy.conformance import example
from spikeloop.errors import InvalidInputError, PreflightError, SessionStateError, TargetError, UnknownNameError
from spikeloop.models import Decoder, Dense, Encoder, Network, Neuron, Stimulus, save
from spikeloop.runtime import launch


def test_single_and_batch_decide_alike():
    observations = np.random.default_rng(0).normal(size=(9, 3))
    with launch(example(0)) as agent:
        batch = agent.decide(observations, spikes=True)
        assert batch.action.shape == (9,)
        assert batch.output.shape == (9, 3)
        for i, observation in enumerate(observations):
            one = agent.decide(observation, spikes=True)
            assert isinstance(one.action, int)
            assert one.action == batch.action[i] == agent.act(observation)
            assert np.array_equal(one.output, batch.output[i])
            assert all(np.array_equal(a, b[i]) for a, b in zip(one.spike_counts, batch.spike_counts, strict=True))


def test_spikes_are_one_train_per_neuron():
    network = example(1)
    with launch(network) as agent:
        decision = agent.decide([1.0, 1.0, 1.0], spikes=True)
        assert [len(layer) for layer in decision.spikes] == [6, 5]
        for trains, counts in zip(decision.spikes, decision.spike_counts, strict=True):
            assert [len(train) for train in trains] == counts.tolist()
            assert all(np.all(np.diff(train) > 0) and train.max(initial=0) < network.steps for train in trains)
        assert sum(int(counts.sum()) for counts in decision.spike_counts) > 0
        assert len(agent.decide(np.ones((2, 3)), spikes=True).spikes) == 2
        assert agent.decide([1.0, 1.0, 1.0]).spikes is None
        assert agent.decide([1.0, 1.0, 1.0]).spike_counts is None


@pytest.mark.parametrize("kind", ["spike_count", "first_spike"])
def test_a_firing_output_layer_is_read(kind):
    network = example(2, decoder=Decoder(kind))
    with launch(network) as agent:
        decision = agent.decide([1.0, 2.0, 0.5], spikes=True)
    counts = decision.spike_counts[-1]
    if kind == "spike_count":
        assert np.array_equal(decision.output, counts)
    else:
        first = [train[0] if len(train) else network.steps for train in decision.spikes[-1]]
        assert np.array_equal(decision.output, network.steps - np.array(first))
    assert decision.action == int(np.argmax(decision.output))
    assert counts.sum() > 0


def test_random_encodings_repeat_with_their_seed():
    network = example(3, encoder=Encoder("poisson", two_neurons=True))
    observation = np.array([0.4, -0.3, 0.5])

    def outputs(agent, n=5):
        return np.array([agent.decide(observation).output for _ in range(n)])

    with launch(network, seed=4) as agent:
        first = outputs(agent)
        assert len(np.unique(first, axis=0)) > 1
        agent.reset()
        assert np.array_equal(outputs(agent), first)
        agent.reset(seed=5)
        assert not np.array_equal(outputs(agent), first)
        agent.reset(seed=4)
        state = agent.encoder_state
        outputs(agent, 3)
        agent.encoder_state = state
        assert np.array_equal(outputs(agent), first)
        agent.reset(seed=4)
        assert np.array_equal(agent.decide(np.tile(observation, (5, 1))).output, first)  # a batch is n decisions


def test_a_stimulus_of_ones_own():
    network = example(4)
    with launch(network) as agent:
        decision = agent.decide_stimulus(Stimulus.from_currents([0.1, 0.2, 0.3]))
        assert np.array_equal(decision.output, agent.decide([0.1, 0.2, 0.3]).output)
        with pytest.raises(InvalidInputError, match="currents"):
            agent.decide_stimulus(Stimulus.from_currents([0.1, 0.2]))
        wrong_window = Stimulus(np.zeros((1, 3)), np.zeros((1, 5, 3), dtype=np.uint8))
        with pytest.raises(InvalidInputError, match="spikes"):
            agent.decide_stimulus(wrong_window)


def test_timings_are_told_by_stage():
    with launch(example(5)) as agent:
        timings = agent.decide([0.0, 0.0, 0.0]).timings
    assert all(value > 0 for value in timings.as_dict().values())
    assert timings.total_us == pytest.approx(sum(timings.as_dict().values()))


def test_launch_takes_names_and_paths(tmp_path):
    save(example(6), tmp_path / "agent.spk")
    with launch(tmp_path / "agent.spk", "reference") as agent:
        assert agent.network.content_hash == example(6).content_hash
        assert agent.profile == "reference"
    with pytest.raises(UnknownNameError, match="Did you mean nest-exact"):
        launch(example(6), "nest-exat")


def test_a_network_that_cannot_run_is_refused_with_the_reason():
    network = example(7, neuron=Neuron(synapse_decay=0.5))
    with pytest.raises(PreflightError, match="No exact recipe") as caught:
        launch(network, "nest-exact")
    assert [finding.severity for finding in caught.value.findings] == ["error"]
    tiny = example(7, neuron=Neuron(membrane_decay=1e-5, synapse_decay=0.5))
    with pytest.raises(PreflightError, match="1 more"):
        launch(tiny, "nest-exact")


def test_an_output_that_overflows_is_no_decision():
    huge = Network((Dense(np.full((3, 2), 1e308)), Dense(np.full((2, 2), 1e308))), 10)
    with launch(huge) as agent, pytest.raises(TargetError, match="not finite"):
        agent.decide([9.0, 9.0, 9.0])


def test_limits_and_mappings_hold_on_every_target(tmp_path):
    for profile in ("reference", "nest-exact"):
        with pytest.raises(PreflightError, match="14 neurons, the profile allows 3"):
            launch(example(0), profile, settings={"max_neurons": 3})
    text = (Path(spikeloop.__file__).parent / "hardware_profiles" / "nest-iaf_psc_delta.toml").read_text()
    (tmp_path / "odd.toml").write_text(text.replace('target = "nest"', 'target = "reference"'))
    with pytest.raises(PreflightError, match="none of the reference's"):
        launch(example(0), tmp_path / "odd.toml")


def test_a_closed_agent_says_so():
    agent = launch(example(8))
    agent.close()
    agent.close()
    with pytest.raises(SessionStateError, match="launch the agent again"):
        agent.act([0.0, 0.0, 0.0])
