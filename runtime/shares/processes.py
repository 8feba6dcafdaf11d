"""Shares side by side in processes of this machine.

Each worker has a pipe of its own. So it is known which share a worker that died was at, how it ended, and that no other
share was lost with it; a result that was cut off while it was being sent is seen as such (`ProcessPoolExecutor` waits
for its rest for ever); and workers whose parent was killed see that too. Processes are spawned, not forked: NEST has
one kernel per process, which forks would share, and other threads of the parent may hold locks.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from ...errors import TargetError
from .work import Result, Task, outcome

GRACE_S = 3.0


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    task: Task | None = None


def side_by_side(
    tasks: Sequence[Task], jobs: int, retries: int, on_note: Callable[[str], None]
) -> Iterator[tuple[Task, Result]]:
    """Do the shares in up to `jobs` processes; yields each when it is finished. Close the iterator to end the workers.

    Raises
    ------
    TargetError
        If a share's worker died more than `retries` times, or workers die before they take a share.
    Exception
        What the function raised: of several the first by the shares' order, as if they were done one after the other.
        Shares behind it are not begun any more; those before it are finished first.
    """
    pool = _Pool(tasks, jobs, retries, on_note)
    try:
        while pool.hand_out():
            for worker in pool.heard():
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    pool.lost(worker)
                    continue
                task, worker.task, worker.ready = worker.task, None, True
                if isinstance(message, Exception):
                    assert task is not None, "a worker answers when it is asked"
                    pool.fail(task, message)
                elif task is not None:  # else it says that it is ready
                    yield task, message
        if pool.failed is not None:
            raise pool.failed[1]
    finally:
        _end(pool.workers)


class _Pool:
    """What is still to be done, and by whom."""

    def __init__(self, tasks: Sequence[Task], jobs: int, retries: int, on_note: Callable[[str], None]) -> None:
        self.workers: list[_Worker] = []
        self.failed: tuple[int, Exception] | None = None
        self._waiting = deque(tasks)
        self._jobs = jobs
        self._retries = retries
        self._on_note = on_note
        self._deaths: Counter[int | None] = Counter()

    def hand_out(self) -> bool:
        """Give every free worker a share; False if nothing is left to wait for."""
        busy = [worker.task for worker in self.workers if worker.task is not None]
        if not self._waiting and not any(self._wanted(task) for task in busy):
            return False
        while len(self.workers) < min(self._jobs, len(busy) + len(self._waiting)):
            _start(self.workers)
        for worker in self.workers:
            if self._waiting and worker.ready and worker.task is None:
                worker.task = self._waiting.popleft()
                with contextlib.suppress(OSError):  # it died meanwhile, which is seen when it is heard
                    worker.connection.send(worker.task)
        return True

    def heard(self) -> list[_Worker]:
        """Wait for workers that have something to say, or have died."""
        ends = set(wait([worker.connection for worker in self.workers]))
        return [worker for worker in self.workers if worker.connection in ends]

    def fail(self, task: Task, error: Exception) -> None:
        """End with this error, unless a share before it fails too; what is behind it is not begun."""
        if self._wanted(task):
            self.failed = task.position, error
            self._waiting = deque(filter(self._wanted, self._waiting))

    def lost(self, worker: _Worker) -> None:
        """A worker died: its share is done again, or fails."""
        self.workers.remove(worker)
        worker.connection.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        task = worker.task
        if task is None and worker.ready:
            return
        position = None if task is None else task.position
        self._deaths[position] += 1
        hopeless = task is None and code >= 0  # the next one would end in the same way
        if self._deaths[position] <= self._retries and not hopeless:
            if task is not None and self._wanted(task):
                self._waiting.appendleft(task)
                self._on_note(f"{task}: its worker process {how}; it is done again.")
        elif task is None:
            raise TargetError(
                f"A worker process {how} before it took a share; its message is above. A script must start its work "
                "under: if __name__ == '__main__':"
            )
        else:
            advice = "If memory ran out, use fewer jobs." if code == -signal.SIGKILL else "Do it in one job to see why."
            times = f"{self._retries + 1} worker processes" if self._retries else "its worker process"
            self.fail(task, TargetError(f"{task} was the end of {times}; the last one {how}. {advice}"))

    def _wanted(self, task: Task) -> bool:
        return self.failed is None or task.position < self.failed[0]


def _start(workers: list[_Worker]) -> None:
    context = multiprocessing.get_context("spawn")
    resource_tracker.ensure_running()  # its own start would unblock the signal
    # Ctrl-C goes to all processes of the terminal; a worker is to be ended by its parent, without a word of its own.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), name="spikeloop-shares")
        process.start()
        workers.append(_Worker(process, ours))
        theirs.close()  # or the end of the worker would not be seen here
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        os.dup2(2, 1)  # simulators print, from C too; stdout is the parent's, perhaps for a document
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent closed the pipe
        connection.send(None)
        while True:
            connection.send(outcome(connection.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()  # whoever waits for a share ends by itself
        if worker.task is not None or not worker.ready:
            worker.process.terminate()
    latest = time.monotonic() + GRACE_S
    for worker in workers:
        worker.process.join(max(0.0, latest - time.monotonic()))
    for worker in workers:
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()
