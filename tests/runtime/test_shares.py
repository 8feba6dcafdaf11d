"""Shares: the same results wherever they are done and whatever dies meanwhile, and nothing that is finished is lost."""

import contextlib
import copy
import importlib.util
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import spikeloop
from spikeloop import errors
from spikeloop.deploy.findings import Finding
from spikeloop.errors import AddressError, InvalidInputError, MissingPackageError, PreflightError, TargetError
from spikeloop.runtime.shares import run_shares
from spikeloop.runtime.shares.cluster import _wrong
from spikeloop.tests.runtime import shares_work as of

ROOT = Path(spikeloop.__file__).resolve().parent
SHARES = [{"seed": seed, "shape": (2, 3)} for seed in (3, 1, 4, 1, 5, 9)]


def same(given, expected):
    assert len(given) == len(expected)
    for ours, theirs in zip(given, expected, strict=True):
        assert list(ours) == list(theirs)
        for name in theirs:
            assert ours[name].dtype == theirs[name].dtype
            assert ours[name].shape == theirs[name].shape
            assert ours[name].flags.f_contiguous == theirs[name].flags.f_contiguous
            assert ours[name].tobytes() == theirs[name].tobytes()


def kept(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.npz")}


# --- in this process ------------------------------------------------------------------------------------------------


def test_results_are_in_the_order_of_the_shares_and_equal_shares_are_done_once(tmp_path):
    log, told = tmp_path / "log", []
    shares = [{"seed": seed, "log": str(log)} for seed in (3, 1, 4, 1, 5)]
    results = run_shares(of.logged, shares, on_progress=lambda done, total: told.append((done, total)))
    assert [int(result["n"]) for result in results] == [3, 1, 4, 1, 5]
    assert log.read_text().split() == ["3", "1", "4", "5"]
    assert told == [(0, 5), (1, 5), (3, 5), (4, 5), (5, 5)]
    assert run_shares(of.draw, []) == []


def test_a_share_is_what_json_makes_of_it():
    assert run_shares(of.draw, SHARES[:1])[0]["is_list"]


@pytest.mark.parametrize("share", [{"seed": np.zeros(2)}, {"seed": float("nan")}, [1], {(1, 2): 3}])
def test_shares_must_be_plain(share):
    with pytest.raises(InvalidInputError, match="Share 0 is no mapping of plain values"):
        run_shares(of.draw, [share])


@pytest.mark.parametrize("work", [lambda share: {}, "draw", np.random.default_rng(0).normal])
def test_work_must_be_importable(work):
    with pytest.raises(InvalidInputError, match="a function at the top of a module"):
        run_shares(work, SHARES)


@pytest.mark.parametrize(
    "options", [{"jobs": 0}, {"jobs": 1.5}, {"jobs": True}, {"retries": -1}, {"jobs": 2, "cluster": "tcp://a:1"}]
)
def test_options_that_cannot_be(options):
    with pytest.raises(InvalidInputError, match="given"):
        run_shares(of.draw, SHARES, **options)


@pytest.mark.parametrize("error", ["no array", "objects"])
def test_results_must_be_arrays(error):
    with pytest.raises(InvalidInputError, match=r"shares_work:failing returned 'x'"):
        run_shares(of.failing, [{"seed": 1, "error": error}])


# --- the folder -----------------------------------------------------------------------------------------------------


def test_finished_shares_are_not_done_again(tmp_path):
    folder, log, told = tmp_path / "a" / "b", tmp_path / "log", []
    shares = [{"seed": seed, "log": str(log)} for seed in range(4)]
    expected = run_shares(of.logged, shares[:2], folder=folder)
    files = kept(folder)
    results = run_shares(of.logged, shares, folder=folder, on_progress=lambda *done: told.append(done))
    assert log.read_text().split() == ["0", "1", "2", "3"]
    assert told == [(2, 4), (3, 4), (4, 4)]
    same(results[:2], expected)
    same(results, [of.draw(share) for share in shares])
    assert kept(folder).items() >= files.items()
    run_shares(of.draw, shares, folder=folder)  # another function: nothing of the above is its
    assert len(kept(folder)) == 8
    listed = json.loads((folder / "shares.json").read_text())
    assert set(listed["files"]) == set(kept(folder))
    assert {entry["share"]["seed"] for entry in listed["files"].values()} == {0, 1, 2, 3}
    assert listed["versions"]["spikeloop"] == spikeloop.__version__
    assert {path.suffix for path in folder.iterdir()} == {".npz", ".json"}


def test_another_version_does_its_shares_itself(tmp_path, monkeypatch):
    run_shares(of.draw, SHARES[:1], folder=tmp_path)
    monkeypatch.setattr("spikeloop.runtime.shares.work.__version__", "0.0.0")
    run_shares(of.draw, SHARES[:1], folder=tmp_path)
    assert len(kept(tmp_path)) == 2


def test_long_values_are_not_repeated_in_the_list(tmp_path):
    run_shares(of.draw, [{"seed": 7, "network": "A" * 10_000}, {"seed": 7, "network": "B" * 10_000}], folder=tmp_path)
    assert len(kept(tmp_path)) == 2  # they still tell shares apart
    entries = json.loads((tmp_path / "shares.json").read_text())["files"].values()
    assert [entry["share"] for entry in entries] == [{"seed": 7, "network": "..."}] * 2


@pytest.mark.parametrize("how", ["cut", "one bit", "empty", "text", "pickle"])
def test_a_damaged_file_is_done_again(tmp_path, how):
    expected, notes = run_shares(of.draw, SHARES[:2], folder=tmp_path), []
    path = min(tmp_path.glob("*.npz"))
    whole = path.read_bytes()
    middle = whole.index(np.ascontiguousarray(np.load(path)["file"]).tobytes()) + 5
    damaged = {
        "cut": whole[: len(whole) // 2],
        "one bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "empty": b"",
        "text": b"nothing of the kind",
        "pickle": pickle.dumps({"file": 1}),
    }[how]
    path.write_bytes(damaged)
    results = run_shares(of.draw, SHARES[:2], folder=tmp_path, on_note=notes.append)
    same(results, expected)
    assert len(notes) == 1
    assert f"{path} is damaged" in notes[0]
    assert path.read_bytes() == whole
    path.write_bytes(damaged)
    with pytest.warns(UserWarning, match="is damaged"):
        run_shares(of.draw, SHARES[:2], folder=tmp_path)


def test_folders_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="Cannot make the folder"):
        run_shares(of.draw, SHARES, folder=tmp_path / "file")
    (tmp_path / "shares.json").write_text('{"somebody": "else\'s"}')
    with pytest.raises(InvalidInputError, match="no list of finished shares"):
        run_shares(of.draw, SHARES, folder=tmp_path)
    assert (tmp_path / "shares.json").read_text() == '{"somebody": "else\'s"}'


# --- processes ------------------------------------------------------------------------------------------------------


def test_processes_give_what_one_gives_and_keep_stdout_clean(tmp_path, capfd):
    expected = run_shares(of.draw, SHARES)
    capfd.readouterr()
    same(run_shares(of.draw, SHARES, jobs=2, folder=tmp_path), expected)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "a word from C" in printed.err
    assert "a word from Python" in printed.err
    same(run_shares(of.draw, SHARES, folder=tmp_path), expected)


def test_a_share_whose_process_dies_is_done_again_and_no_other(tmp_path):
    log, notes = tmp_path / "log", []
    shares = [{"seed": seed, "log": str(log), "times": 2 if seed == 1 else 0} for seed in range(5)]
    results = run_shares(of.deadly, shares, jobs=2, on_note=notes.append)
    same(results, [of.draw(share) for share in shares])
    assert log.read_text() == "xxx"
    assert len(notes) == 2
    assert all(re.match(r"Share 1 .*was ended by SIGKILL; it is done again", note) for note in notes)


def test_a_share_that_ends_every_process_is_named_and_the_others_are_kept(tmp_path):
    log = str(tmp_path / "log")
    shares = [{"seed": seed, "log": log, "times": 9 if seed == 1 else 0, "exit": 7} for seed in range(3)]
    with pytest.raises(TargetError, match=r'Share 1 .*"seed":1.* 2 worker processes; the last one .* exit code 7') as e:
        run_shares(of.deadly, shares, jobs=2, folder=tmp_path / "kept", retries=1, on_note=lambda text: None)
    assert e.value.exit_code == 1
    assert len(kept(tmp_path / "kept")) >= 1
    assert Path(log).read_text() == "xx"


def test_the_first_error_by_order_is_raised_though_another_came_earlier(tmp_path):
    shares = [{"seed": 0}, {"seed": 1, "error": "preflight", "seconds": 0.5}, {"seed": 2, "error": "mistake"}]
    shares += [{"seed": seed} for seed in range(3, 9)]
    with pytest.raises(PreflightError, match=r"^share 1$") as raised:
        run_shares(of.failing, shares, jobs=2, folder=tmp_path)
    assert raised.value.findings == (Finding("error", "too many", "use less", 1, needed=5),)
    assert len(kept(tmp_path)) == 1  # the shares behind the failed one are not begun


@pytest.mark.parametrize(
    ("error", "kind", "match"), [("mistake", IndexError, "out of bounds"), ("odd", TargetError, "OddError: odd")]
)
def test_a_mistake_in_the_function_comes_with_its_traceback(error, kind, match):
    with pytest.raises(kind, match=match) as raised:
        run_shares(of.failing, [{"seed": 7, "error": error}], jobs=2)
    if error == "mistake":
        assert 'return {"x": np.zeros(2)[share["seed"]]}' in "".join(raised.value.__notes__)


def everything(kind):
    return [kind, *(inner for sub in kind.__subclasses__() for inner in everything(sub))]


@pytest.mark.parametrize("kind", everything(errors.SpikeloopError), ids=lambda kind: kind.__name__)
def test_our_errors_survive_the_way_to_another_process(kind):
    given = {
        PreflightError: lambda: PreflightError("a word", [Finding("error", "m", "a", 1, 2, 3, "4")]),
        errors.RefusedError: lambda: errors.RefusedError("a word", "WRONG_NETWORK"),
    }.get(kind, lambda: kind("a word"))()
    given.add_note("a note")
    for error in (pickle.loads(pickle.dumps(given)), copy.copy(given)):
        assert type(error) is kind
        assert str(error) == "a word"
        assert error.exit_code == given.exit_code
        assert vars(error) == vars(given)


# --- runs that are ended --------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from spikeloop.runtime.shares import run_shares
from spikeloop.tests.runtime import shares_work as of
if __name__ == "__main__" or {guarded} is False:
    shares = [{{"seed": seed, "log": {log!r}, "seconds": 0.05 if seed < 2 else {seconds}}} for seed in range(4)]
    for result in run_shares(of.{work}, shares, jobs=2, folder={folder!r}, on_note=print):
        print(*result)
"""


@contextlib.contextmanager
def started(tmp_path, work="logged", seconds=60.0, guarded=True):
    log, folder = str(tmp_path / "log"), str(tmp_path / "kept")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(log=log, folder=folder, work=work, seconds=seconds, guarded=guarded))
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def in_session(leader):
    """The processes of a session: of the script and all that it started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


def until(condition, seconds=15.0):
    latest = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < latest, "waited for too long"
        time.sleep(0.02)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_its_finished_shares_and_no_process(tmp_path, ending):
    folder, log = tmp_path / "kept", tmp_path / "log"
    with started(tmp_path) as process:
        until(lambda: len(kept(folder)) == 2 and len(log.read_text().split()) == 4)
        if ending == signal.SIGINT:
            os.killpg(process.pid, ending)  # as a terminal does
        else:
            process.send_signal(ending)
        began = time.monotonic()
        _, errors_ = process.communicate()  # ends when no worker holds the pipes any more
        assert time.monotonic() - began < 5
        until(lambda: not in_session(process.pid), 5)
    if ending == signal.SIGINT:
        assert errors_.count("KeyboardInterrupt") == 1
        assert errors_.count("Traceback") == 1
    else:
        assert "Traceback" not in errors_
    assert len(kept(folder)) == 2
    assert len(json.loads((folder / "shares.json").read_text())["files"]) == 4
    shares = [{"seed": s, "log": str(log), "seconds": 0.05 if s < 2 else 60.0} for s in range(2)]
    same(run_shares(of.logged, shares, folder=folder), [of.draw(share) for share in shares])
    assert len(log.read_text().split()) == 4  # both were there


def test_a_result_that_is_cut_off_on_its_way_is_done_again(tmp_path):
    with started(tmp_path, work="cut_off") as process:
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "was ended by SIGKILL; it is done again" in out
    assert out.split("\n").count("large") == 4


def test_a_script_without_a_guard_is_told_so(tmp_path):
    with started(tmp_path, guarded=False) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.rstrip().endswith("A script must start its work under: if __name__ == '__main__':")


# --- a cluster ------------------------------------------------------------------------------------------------------

needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason='needs dask.distributed: pip install "spikeloop[cluster]"'
)


def dask(log, *arguments, path=None):
    command = [sys.executable, "-m", "dask", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else None
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent, env=environment)


def worker(folder, address, threads=1, path=None):
    log = folder / f"worker-{len(list(folder.glob('worker-*')))}.log"
    options = ("--no-nanny", "--nthreads", str(threads), "--no-dashboard", "--local-directory", str(folder))
    return dask(log, "worker", address, *options, path=path)


def end(*processes):
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a scheduler, and a folder for its workers."""
    folder = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")
        yield from scheduled(folder)


def scheduled(folder):
    scheduler = dask(folder / "scheduler.log", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    try:
        found = []
        until(
            lambda: found.extend(re.findall(r"tcp://127\.0\.0\.1:\d+", (folder / "scheduler.log").read_text())) or found
        )
        yield found[0], folder
    finally:
        end(scheduler)


@needs_dask
def test_a_cluster_gives_what_one_process_gives_though_a_worker_is_lost(cluster, tmp_path):
    address, folder = cluster
    log = tmp_path / "log"
    shares = [{"seed": seed, "log": str(log), "times": 1 if seed == 4 else 0} for seed in range(10)]
    workers = [worker(folder, address), worker(folder, address)]

    def dawdle(done, total):
        time.sleep(0.3 if 1 <= done <= 2 else 0.0)  # so that finished results are lost with the worker too

    try:
        results = run_shares(of.deadly, shares, cluster=address, folder=tmp_path / "kept", on_progress=dawdle)
        same(results, [of.draw(share) for share in shares])
        assert log.read_text() == "xx"  # begun twice
        assert sorted(process.poll() or 0 for process in workers) == [-signal.SIGKILL, 0]
        assert len(kept(tmp_path / "kept")) == 10
        with pytest.raises(PreflightError, match=r"^share 1$") as raised:  # and errors come as they are
            run_shares(of.failing, [{"seed": 0}, {"seed": 1, "error": "preflight"}], cluster=address)
        assert raised.value.findings[0].needed == 5
        workers.append(worker(folder, address))
        shares[0]["times"] = 99
        with pytest.raises(TargetError, match=r"Share 0 .*lost 2 workers of the cluster"):
            run_shares(of.deadly, shares[:1], cluster=address)
    finally:
        end(*workers)


@needs_dask
@pytest.mark.parametrize(
    ("threads", "other", "match"),
    [
        (2, None, r"has 2 threads; .*--nthreads 1 --nworkers 2"),
        (1, '__version__ = "0.0.1"', rf"has Spikeloop 0\.0\.1; this is Spikeloop {re.escape(spikeloop.__version__)}"),
        (1, "raise ModuleNotFoundError('not here')", r"has no Spikeloop \(not here\); this is"),
    ],
    ids=["threads", "version", "missing"],
)
def test_workers_that_cannot_do_shares_are_refused(cluster, tmp_path, threads, other, match):
    address, folder = cluster
    if other is not None:
        (tmp_path / "spikeloop").mkdir()
        (tmp_path / "spikeloop" / "__init__.py").write_text(other)
    process = worker(folder, address, threads, tmp_path if other else None)
    try:
        with pytest.raises(InvalidInputError, match=match):
            run_shares(of.draw, SHARES, cluster=address)
    finally:
        end(process)


def test_a_worker_that_joins_later_is_looked_at_too():
    assert _wrong({"tcp://a:1": "1.2"}, {"tcp://a:1": 1}, "1.2") is None
    assert "tcp://a:1 has Spikeloop 1.1; this is Spikeloop 1.2" in str(_wrong({"tcp://a:1": "1.1"}, {}, "1.2"))


@needs_dask
def test_a_scheduler_that_is_not_there(monkeypatch):
    monkeypatch.setattr("spikeloop.runtime.shares.cluster.TIMEOUT_S", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(AddressError, match="No Dask scheduler answers at 'tcp://"):
            run_shares(of.draw, SHARES, cluster=f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    with pytest.raises(AddressError, match="No Dask scheduler answers at 'nowhere://a'"):
        run_shares(of.draw, SHARES, cluster="nowhere://a")


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingPackageError, match=r'pip install "spikeloop\[cluster\]"'):
        run_shares(of.draw, SHARES, cluster="tcp://127.0.0.1:1")
