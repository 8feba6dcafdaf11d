"""A small agent whose answers can be worked out by hand, and a process that serves it: ``python fake_host.py``."""

import time

import numpy as np
from spikeloop.bridges.host import Host
from spikeloop.errors import InvalidInputError, TargetError
from spikeloop.models.stimulus import finite
from spikeloop.runtime.decision import Decision, Timings

FAILS, CRASHES, IS_TOO_LONG = 1e6, 2e6, 3e6  # what happens when these are the first value of an observation


class FakeAgent:
    """Answers with the sum of what it is given, its seed and its count of decisions, so that a mix-up would show."""

    network_hash = "ab12"
    network_name = "fake"
    profile = "reference"
    target = "reference"
    n_inputs = 2
    n_channels = 3
    n_outputs = 3
    steps = 5
    layer_sizes = (3, 4)
    step_ms = 10.0
    window_ms = 50.0
    decoder = "potential"

    def __init__(self, delay_s=0.0):
        self.encoder_state = (7, 0)
        self.delay_s = delay_s
        self.calls = []

    def reset(self, *, seed=None):
        self.calls.append(("reset", seed))
        self.encoder_state = (self.encoder_state[0] if seed is None else seed, 0)

    def decide(self, observation, *, spikes=False):
        values = finite(observation, "observation")
        if values.shape != (self.n_inputs,):
            raise InvalidInputError(f"The shape {values.shape} was given.")
        self.calls.append(("decide", values.tolist()))
        if values[0] == FAILS:
            raise TargetError("The simulator fell over.")
        if values[0] == CRASHES:
            raise RuntimeError("a defect \udc80")
        return self._decision(values, np.zeros((self.steps, self.n_channels), np.uint8), spikes)

    def decide_stimulus(self, stimulus, *, spikes=False):
        self.calls.append(("decide_stimulus", stimulus.currents.tolist()))
        given = np.zeros((1, self.steps, self.n_channels), np.uint8) if stimulus.spikes is None else stimulus.spikes
        return self._decision(stimulus.currents[0], given[0], spikes)

    def _decision(self, values, spikes_in, spikes):
        time.sleep(self.delay_s)
        seed, count = self.encoder_state
        self.encoder_state = (seed, count + 1)
        output = np.array([values.sum(), seed, count], dtype=np.float64)
        if values[0] == IS_TOO_LONG:
            output = np.zeros(3_000_000)
        diagonal = np.eye(self.steps, 4, dtype=np.uint8)
        rasters = (spikes_in, diagonal) if spikes else None
        return Decision(int(output.argmax()), output, Timings(1.0, 2.0, 3.0, 4.0, 5.0), rasters)


if __name__ == "__main__":
    with Host(FakeAgent(), "tcp://127.0.0.1:*") as host:
        print(host.address, flush=True)
        host.serve_until_signalled()
    print("closed", flush=True)
