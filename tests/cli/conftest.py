"""The command line as its users start it: a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass

import numpy as np
import psutil
import pytest
from spikeloop.cli.main import main
from spikeloop.deploy.twin import training_facts
from spikeloop.errors import TraceError
from spikeloop.hardware_profiles import load_profile
from spikeloop.models import Conv2d, Decoder, Dense, Encoder, Network, Neuron, save
from spikeloop.runtime import Trace

COMMAND = [sys.executable, "-m", "spikeloop"]
# The width of help pages and tables; no colours, whatever the machine's taste.
ENVIRONMENT = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
for name in ("SPIKELOOP_DEBUG", "FORCE_COLOR", "PYTHONWARNINGS"):
    ENVIRONMENT.pop(name, None)


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self):
        """What stdout holds: exactly one JSON document."""
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    def refused(self, code=2):
        """The message of a command that failed as it should: one line on stderr, nothing on stdout."""
        assert self.code == code, self
        assert "Traceback" not in self.err
        assert "Unexpected" not in self.err
        lines = self.err.splitlines()
        assert [line for line in lines if line.startswith("error: ")] == lines[-1:], self.err
        return lines[-1].removeprefix("error: ")


@pytest.fixture
def spikeloop(files):
    """Run a command to its end, in the folder `files`."""

    def run(*words, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment):
        result = subprocess.run(
            [*COMMAND, *map(str, words)],
            cwd=files,
            env=ENVIRONMENT | environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            encoding="utf-8",
            timeout=timeout,
        )
        return Result(result.returncode, result.stdout or "", result.stderr or "")

    return run


@pytest.fixture
def in_process(files, monkeypatch, capfd):
    """The same in this process, for the many commands that end before they do anything: Python starts slowly."""
    monkeypatch.chdir(files)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setenv("COLUMNS", "100")
    before = signal.getsignal(signal.SIGTERM)

    def run(*words):
        assert "--json" not in words, "it redirects descriptors for good"
        monkeypatch.setattr(sys, "argv", ["spikeloop", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return Result(ended.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def start(files):
    """Start a command and leave it running; it and its children are gone after the test."""
    started = []

    def begin(*words, **options):
        process = psutil.Popen(
            [*COMMAND, *map(str, words)],
            cwd=files,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            **options,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        children = process.children(recursive=True) if process.is_running() else []
        for each in (process, *children):
            if each.is_running():
                each.kill()
        process.communicate()


@pytest.fixture
def wait_for_decisions(files):
    """Wait until the trace that a process writes holds some decisions."""

    def wait(process, name, count=30, timeout_s=60.0):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
            with contextlib.suppress(TraceError):  # there is no file yet, or half a schema
                if len(Trace(files / name)) >= count:
                    return
        process.kill()
        pytest.fail(f"{name} did not reach {count} decisions: {process.communicate()}")

    return wait


@pytest.fixture(scope="session")
def files(tmp_path_factory, make_network):
    """A folder of files to give to commands."""
    folder = tmp_path_factory.mktemp("files")
    save(make_network(name="small"), folder / "small.spk")
    save(make_network((2, 8, 3), name="car"), folder / "car.spk")
    facts = training_facts(load_profile("nest-iaf_psc_delta"))
    save(make_network(name="distilled", provenance={"trained_for": facts}), folder / "distilled.spk")
    save(make_network(neuron=Neuron(synapse_decay=0.5)), folder / "no-recipe.spk")
    save(
        make_network((2, 6, 3), encoder=Encoder("poisson", two_neurons=True), decoder=Decoder("first_spike")),
        folder / "poisson.spk",
    )
    image = Conv2d(np.full((2, 1, 2, 2), 0.5), np.full(2, 0.1), input_shape=(1, 4, 4), stride=2)
    save(Network((image, Dense(np.eye(8)[:, :3])), 10, name="convolutional"), folder / "convolutional.spk")
    save(make_network(name="[/x] \x1b[31m\n[bold]", provenance={"[/k]": "\x07[/v]"}), folder / "hostile.spk")
    data = (folder / "small.spk").read_bytes()
    (folder / "truncated.spk").write_bytes(data[:-50])
    (folder / "newer.spk").write_bytes(data.replace(rb"\"version\":1", rb"\"version\":4"))
    (folder / "tampered.spk").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (folder / "foreign.spk").write_text("hello\n", encoding="utf-8")
    (folder / "empty.spk").write_bytes(b"")
    observations = np.random.default_rng(0).normal(size=(12, 4))
    np.save(folder / "states.npy", observations)
    np.savez(folder / "states.npz", observations=observations, other=np.zeros(3))
    np.savez(folder / "unnamed.npz", a=observations, b=observations)
    np.save(folder / "nan.npy", np.where(observations > 1, np.nan, observations))
    np.save(folder / "wide.npy", np.zeros((3, 5)))
    np.save(folder / "none.npy", np.zeros((0, 4)))
    np.save(folder / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    (folder / "folder").mkdir()
    return folder
