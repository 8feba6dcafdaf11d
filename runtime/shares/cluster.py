"""Shares on a Dask cluster: its scheduler gives them to workers, and again to others when a worker is lost.

Workers must have one thread each. A lock in workers of several threads would do for NEST, of which a process has one
kernel, but shares would wait behind it in one worker while others are idle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from importlib import import_module
from typing import Any

from ... import __version__
from ...errors import AddressError, InvalidInputError, MissingPackageError, TargetError
from .work import Result, Task, outcome

TIMEOUT_S = 8.0


def on_cluster(tasks: Sequence[Task], address: str, retries: int) -> Iterator[tuple[Task, Result]]:
    """Do the shares on the cluster whose scheduler is at `address`; yields each when it is finished.

    How many lost workers a share survives is the scheduler's to say: `distributed.scheduler.allowed-failures`, 3 unless
    configured. `retries` is for what fails around a share, such as sending it. Closing the iterator takes back all
    shares that no worker has begun.

    Raises
    ------
    MissingPackageError, AddressError, InvalidInputError, TargetError
    Exception
        What the function raised: of several the first by the shares' order.
    """
    try:
        dask: Any = import_module("distributed")  # half of it is without types
    except ImportError:
        raise MissingPackageError.needs("A cluster", "dask.distributed", "cluster") from None
    try:
        client = dask.Client(address, timeout=TIMEOUT_S, set_as_default=False)
    except Exception as error:  # whatever answers there, if anything: refused, no such host, another protocol
        raise AddressError(
            f"No Dask scheduler answers at {address!r} ({' '.join(str(error).split())[:200]}); one is started by: "
            "dask scheduler"
        ) from None
    with client:
        _check_workers(client, address)
        futures: dict[Any, Task] = {
            client.submit(_on_worker, task, __version__, key=f"share-{task.digest}", retries=retries): task
            for task in tasks
        }
        failed: tuple[int, Exception] | None = None
        left = {task.position for task in tasks}
        for future in dask.as_completed(list(futures), loop=client.loop):
            task = futures.pop(future)
            left.discard(task.position)
            found = _found(dask, future, task, address)
            if not isinstance(found, Exception):
                yield task, found
            elif failed is None or task.position < failed[0]:
                failed = task.position, found
            if failed is not None and not [position for position in left if position < failed[0]]:
                raise failed[1]


def _on_worker(task: Task, version: str) -> Result | Exception:
    # Workers may join while shares are being done.
    worker = import_module("distributed").get_worker()
    wrong = _wrong({worker.address: __version__}, {worker.address: worker.state.nthreads}, version)
    return wrong or outcome(task)


def _check_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=TIMEOUT_S)
    except TimeoutError:
        raise AddressError(
            f"The Dask scheduler at {address!r} has no workers; one is started by: dask worker {address} --nthreads 1"
        ) from None
    threads = {name: info["nthreads"] for name, info in client.scheduler_info(n_workers=-1)["workers"].items()}
    # By a built-in function: one of ours could not be imported where Spikeloop is missing.
    versions = client.run(eval, "__import__('spikeloop').__version__", on_error="return")
    wrong = _wrong(versions, threads, __version__)
    if wrong is not None:
        raise wrong


def _wrong(versions: dict[str, Any], threads: dict[str, int], ours: str) -> InvalidInputError | None:
    for name, theirs in versions.items():
        if theirs != ours:
            what = f"Spikeloop {theirs}" if isinstance(theirs, str) else f"no Spikeloop ({theirs})"
            return InvalidInputError(f"Worker {name} has {what}; this is Spikeloop {ours}. Install the same version.")
    for name, count in threads.items():
        if count != 1:
            return InvalidInputError(
                f"Worker {name} has {count} threads; NEST needs a process for itself. Start workers with one thread, "
                f"and as many as there are cores: dask worker ... --nthreads 1 --nworkers {count}"
            )
    return None


def _found(dask: Any, future: Any, task: Task, address: str) -> Result | Exception:
    try:
        # This waits again where the result was lost with its worker before it came here.
        found: Result | Exception = future.result()
        return found
    except CancelledError:
        raise TargetError(f"The Dask scheduler at {address!r} was lost. Finished shares are kept.") from None
    except dask.KilledWorker as error:
        last = getattr(error.last_worker, "address", error.last_worker)
        return TargetError(
            f"{task} lost {error.allowed_failures + 1} workers of the cluster, the last one {last}. See that worker's "
            "log; if memory ran out, give workers more."
        )
    except Exception as error:
        return TargetError(f"{task} could not be done on the cluster: {type(error).__name__}: {error}")
