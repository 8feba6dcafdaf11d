"""Frames that the tests of host and client exchange."""

import numpy as np
from spikeloop.bridges.wire import Error, ErrorCode, Hello, Inject, InputKind, Readout, Welcome, encode


def observation(*values, spikes=False):
    return Inject(InputKind.OBSERVATION, spikes, np.array(values, np.float64))


def u32s(*values):
    return np.array(values, np.uint32)


def welcomed(client):
    """Say hello on a bare socket; requests go on with number 1."""
    number, welcome = client.ask(encode(Hello("bare"), 0))
    assert number == 0
    assert isinstance(welcome, Welcome)
    return welcome


def code_of(answer):
    number, error = answer
    assert isinstance(error, Error), error
    return number, ErrorCode(error.code)


WELCOME = Welcome("", "", "", "", "", 2, 3, 3, 5, u32s(3, 4), False, 0.0, 1.0, 5.0, "")
READOUT = Readout(1, np.zeros(3), np.zeros(5))
