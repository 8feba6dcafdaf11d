"""What bad input gets: one line that says what was given, what was needed and what to do, and an exit code."""

import os
import pickle
import socket
import subprocess
import sys

import pytest

RUN = ("run", "small.spk", "--on", "reference", "--env", "CartPole-v1", "--episodes", "1")
CASES = {
    # networks
    "no such agent": ("inspect nothing.spk", "no file or bundled agent 'nothing.spk'. Known: cartpole"),
    "misspelt agent": ("inspect cart-pole", "Did you mean cartpole or cartpole-spinnaker?"),
    "truncated": ("inspect truncated.spk", "truncated.spk is damaged or truncated"),
    "newer": ("inspect newer.spk", "format version 4; this Spikeloop reads up to 3: pip install -U spikeloop"),
    "tampered": ("inspect tampered.spk", "its content hash is"),
    "foreign": ("inspect foreign.spk", "foreign.spk is no Spikeloop network file"),
    "empty": ("inspect empty.spk", "empty.spk is no Spikeloop network file"),
    "folder": ("inspect folder", "it is no regular file"),
    "endless": ("inspect /dev/zero", "it is no regular file"),
    "truncated to run": ("run truncated.spk --on reference --env CartPole-v1", "damaged or truncated"),
    # profiles and settings
    "no such profile": (
        "plan small.spk --on nest-exat",
        "no profile or profile file 'nest-exat'. Did you mean nest-exact",
    ),
    "unknown setting": (
        "plan small.spk --on nest-iaf_psc_delta --set tau=3",
        "There is no setting 'tau'. Did you mean tau_m? The profile is 'nest-iaf_psc_delta'.",
    ),
    "no setting": (
        "plan small.spk --on nest-exact --set x",
        "'x' was given for --set; it must be of the form key=value",
    ),
    "setting of a type": ("plan small.spk --on nest-iaf_psc_delta --set tau_m=long", "it must be a number, such as"),
    "off the grid": ("plan small.spk --on nest-iaf_psc_delta --set resolution_ms=0.3", "step_ms=1.0 is no multiple"),
    "unknown key in a file": (
        "plan small.spk --on mine.toml",
        "In mine.toml: There is no key 'tarqet'. Did you mean target or targets?",
    ),
    "a network as a profile": ("plan small.spk --on small.spk", "small.spk is no valid TOML"),
    "no recipe": ("plan no-recipe.spk --on nest-exact", "cannot run under 'nest-exact': No exact recipe is known"),
    "no recipe to run": ("run no-recipe.spk --on nest-exact --env CartPole-v1", "Run it on 'reference', or train"),
    "too large": ("plan small.spk --on nest-exact --set max_neurons=3", "has 10 neurons, the profile allows 3"),
    # environments
    "continuous actions": (
        "run small.spk --on reference --env Pendulum-v1",
        "has the action space Box(-2.0, 2.0, (1,), float32); a spiking agent chooses one of several actions",
    ),
    "other actions": ("run small.spk --on reference --env Acrobot-v1", "has 3 actions, the network decides between 2"),
    "other observations": (
        "run car.spk --on reference --env Acrobot-v1",
        "observes 6 values (shape (6,)), the network reads 2",
    ),
    "no such environment": ("run small.spk --on reference --env CartPool-v1", "Did you mean: `CartPole`?"),
    "no such module": ("run small.spk --on reference --env nosuch:Thing-v0", "No module named 'nosuch'"),
    # options
    "spikes without a trace": (
        " ".join(RUN) + " --spikes",
        "--spikes keeps spikes in the trace: give --trace FILE too",
    ),
    "bad policy": (" ".join(RUN) + " --pace 1 --on-miss guess", "it must be 'hold' or 'safe:ACTION'"),
    "no such safe action": (" ".join(RUN) + " --pace 1 --on-miss safe:2", "names action 2; there are 2, from 0"),
    "pace 0": (" ".join(RUN) + " --pace 0", "--pace 0 was given; it must be above 0"),
    "pace nan": (" ".join(RUN) + " --pace nan", "--pace nan was given"),
    "pace inf": (" ".join(RUN) + " --pace inf", "--pace inf was given"),
    "pace to serve": ("serve small.spk --on reference --pace -1", "--pace -1 was given"),
    "pace in process": (" ".join(RUN) + " --pace 1 --in-process", "--pace needs the bridge"),
    "slack inf": (" ".join(RUN) + " --slack-ms inf", "Invalid value for '--slack-ms'"),
    "no episodes": ("run small.spk --on reference --env CartPole-v1 --episodes 0", "Invalid value for '--episodes'"),
    "negative seed": (" ".join(RUN) + " --seed -1", "Invalid value for '--seed'"),
    "missing option": ("run small.spk", "Missing option '--on'. spikeloop run --help says how."),
    "missing argument": ("run", "Missing argument 'AGENT'. spikeloop run --help says how."),
    "unknown option": ("inspect --jsn small.spk", "No such option: --jsn"),
    "unknown command": ("fly", "No such command 'fly'. spikeloop --help says how."),
    "too many words": ("inspect small.spk car.spk", "Got unexpected extra argument"),
    # observations
    "nan observations": (
        "check small.spk --on reference --observations nan.npy",
        "of the observations are NaN or infinite",
    ),
    "wide observations": ("check small.spk --on reference --observations wide.npy", "network 'small' needs [n, 4]"),
    "no observations": ("check small.spk --on reference --observations none.npy", "at least one"),
    "no such file": ("check small.spk --on reference --observations no.npy", "'no.npy' was given for observations"),
    "two arrays": ("check small.spk --on reference --observations unnamed.npz", "one named 'observations' is needed"),
    "pickled objects": ("check small.spk --on reference --observations objects.npy", "Cannot read observations from"),
    "a network": ("check small.spk --on reference --observations small.spk", "Cannot read observations from small.spk"),
    "above 100 %": (
        "check small.spk --on reference --observations states.npy --require 101",
        "Invalid value for '--require'",
    ),
    "neither reference nor twin": (
        "check small.spk --on reference --observations states.npy --against truth",
        "it must be 'reference' or 'twin'",
    ),
    "no twin": (
        "check small.spk --on nest-pp_psc_delta --observations states.npy --against twin",
        "No software twin of profile 'nest-pp_psc_delta' is known",
    ),
    # addresses
    "no address": ("serve small.spk --on reference --bind 5560", "'5560' is no address; tcp://<host>:<port> is needed"),
    "no own address": (
        "serve small.spk --on reference --bind tcp://192.0.2.1:5560",
        "this machine has no such address",
    ),
    "no such port": ("serve small.spk --on reference --bind tcp://127.0.0.1:99999", "ports go up to 65535"),
    "nowhere to connect": ("drive --connect tcp://*:5560 --env CartPole-v1", "names no single host and port"),
    "no timeout": ("drive --connect tcp://127.0.0.1:9 --env CartPole-v1 --timeout 0", "Invalid value for '--timeout'"),
}


@pytest.fixture(autouse=True, scope="module")
def _profile_file(files):
    (files / "mine.toml").write_text('schema_version = 1\nname = "mine"\ntarqet = "nest"\n', encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_a_call_that_cannot_work_gets_one_line_and_exit_code_2(in_process, case):
    words, message = CASES[case]
    result = in_process(*words.split())
    assert message in result.refused(2)
    assert result.out == ""


@pytest.mark.parametrize("case", ["truncated", "unknown setting", "continuous actions", "missing option", "no address"])
def test_a_process_of_its_own_says_the_same(spikeloop, in_process, case):
    words, message = CASES[case]
    result = spikeloop(*words.split())
    assert message in result.refused(2)
    assert result == in_process(*words.split())


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "truncated.spk", "--json"),
        ("run", "--json"),
        ("plan", "no-recipe.spk", "--on", "nest-exact", "--json"),
        ("drive", "--connect", "nowhere", "--env", "CartPole-v1", "--json"),
    ],
)
def test_with_json_the_error_is_the_document(spikeloop, words):
    result = spikeloop(*words)
    error = result.document["error"]
    assert error["message"] == result.refused(2)
    assert error["exit_code"] == 2
    assert error["type"] in ("NetworkFileError", "UsageError", "PreflightError", "AddressError")


def test_more_than_one_finding_is_listed_before_the_error(spikeloop):
    result = spikeloop("plan", "no-recipe.spk", "--on", "nest-exact", "--set", "max_neurons=3")
    assert "(1 more: spikeloop plan lists them)" in result.refused(2)
    first, last = result.err.splitlines()
    assert first.startswith("- error: No exact recipe is known")
    assert "allows 3" in last


def test_nobody_to_drive_to(spikeloop):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        result = spikeloop("drive", "--connect", address, "--env", "CartPole-v1", "--timeout", "0.1")
    assert f"The host at {address} has not answered" in result.refused(1)


def test_a_port_in_use(spikeloop):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = spikeloop(
            "serve", "small.spk", "--on", "reference", "--bind", f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        )
    assert "something else listens there; choose another port" in result.refused(2)


# --- files that exist, or cannot be written ----------------------------------------------------------------------


def test_an_existing_trace_is_never_overwritten(spikeloop, files):
    (files / "precious.db").write_text("precious", encoding="utf-8")
    for words in (RUN, (*RUN, "--in-process")):
        result = spikeloop(*words, "--trace", "precious.db")
        assert "precious.db exists, and a trace is never overwritten: give another name" in result.refused(result.code)
        assert result.code in (1, 2)
    assert (files / "precious.db").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("place", ["no/such/folder/run.db", "a" * 300])
def test_a_trace_that_cannot_be_written(spikeloop, files, place):
    result = spikeloop(*RUN, "--in-process", "--trace", place)
    message = result.refused(result.code)
    assert result.code in (1, 2)
    assert place in message


@pytest.fixture
def model(files):
    torch = pytest.importorskip("torch", reason="importing needs torch")
    torch.save([torch.ones(4, 8), torch.ones(8, 2)], files / "model.pt")
    return files / "model.pt"


def test_an_existing_output_is_replaced_only_by_force(spikeloop, files, model):
    words = ("import", model, "--steps", "5", "-o", "out.spk")
    (files / "out.spk").write_text("precious", encoding="utf-8")
    assert "out.spk exists: give another name, or --force to replace it" in spikeloop(*words).refused(2)
    assert (files / "out.spk").read_text(encoding="utf-8") == "precious"
    assert spikeloop(*words, "--force").code == 0
    assert spikeloop("inspect", "out.spk", "--json").document["steps"] == 5


def test_an_output_that_cannot_be_written(spikeloop, model):
    result = spikeloop("import", model, "--steps", "5", "-o", "no/such/folder/out.spk")
    assert result.refused(2) == "Cannot write no/such/folder/out.spk: No such file or directory."


class Touches:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_malicious_pickle_does_not_run(spikeloop, files):
    marker = files / "it-ran"
    (files / "evil.pt").write_bytes(pickle.dumps(Touches(marker), protocol=2))
    assert "would call posix.system" in spikeloop("import", "evil.pt", "--steps", "5", "-o", "evil.spk").refused(2)
    assert "spikeloop import FILE --steps N" in spikeloop("inspect", "evil.pt").refused(2)
    assert not marker.exists()
    assert not (files / "evil.spk").exists()


# --- names and streams that are up to no good --------------------------------------------------------------------


def test_a_name_cannot_write_to_the_terminal(spikeloop):
    for words in (
        ("inspect", "hostile.spk"),
        ("plan", "hostile.spk", "--on", "reference"),
        ("run", "hostile.spk", "--on", "reference", "--env", "CartPole-v1", "--episodes", "1", "--in-process"),
    ):
        result = spikeloop(*words)
        assert result.code == 0, result.err
        assert r"[/x] \x1b[31m\n[bold]" in result.out
        assert not {"\x1b", "\x07"} & set(result.out + result.err)
    assert spikeloop("inspect", "hostile.spk", "--json").document["name"] == "[/x] \x1b[31m\n[bold]"


def test_a_poor_terminal_gets_poor_letters_rather_than_an_error(spikeloop):
    assert spikeloop("profiles", PYTHONIOENCODING="ascii").code == 0
    result = spikeloop("inspect", "ω.spk", PYTHONIOENCODING="ascii")
    assert r"no file or bundled agent '\u03c9.spk'" in result.refused(2)


@pytest.mark.parametrize("words", [("profiles", "--json"), ("inspect", "small.spk")])
def test_a_full_disk_is_reported_and_a_reader_that_has_gone_is_not(spikeloop, words):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        assert "No space left on device" in spikeloop(*words, stdout=full).refused(1)
    reading, writing = os.pipe()
    os.close(reading)
    gone = spikeloop(*words, stdout=writing)
    os.close(writing)
    assert (gone.code, gone.err) == (1, "")


@pytest.mark.parametrize(
    ("words", "code"), [("inspect small.spk", 0), ("inspect --json small.spk", 0), ("inspect no", 2)]
)
def test_closed_streams_do_not_change_the_exit_code(files, words, code):
    command = f"{sys.executable} -m spikeloop {words} >&- 2>&-"
    assert subprocess.run(command, shell=True, check=False, cwd=files, timeout=60).returncode == code
