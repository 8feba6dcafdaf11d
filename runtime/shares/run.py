"""Many independent shares of work, to the same result wherever they are done."""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InvalidInputError
from .cluster import on_cluster
from .processes import side_by_side
from .store import Store
from .work import Result, Task, Work, canonical, done, name_of


def run_shares(
    work: Work,
    shares: Sequence[Mapping[str, Any]],
    *,
    jobs: int = 1,
    cluster: str | None = None,
    folder: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    retries: int = 2,
) -> list[Result]:
    """Do all shares; the results are in the shares' order, and the same however they are done.

    Parameters
    ----------
    work : callable
        ``work(share)`` returns arrays by name, which depend on the share only. It is imported by its module and name
        in other processes, and gets the share as JSON gives it back: tuples are lists.
    shares : sequence of mapping
        Plain values. Equal shares are done once.
    jobs : int
        Processes side by side; 1: in this process.
    cluster : str, optional
        The address of a Dask scheduler, tcp://host:8786: on its workers, instead of in processes here.
    folder : Path, optional
        Where finished shares are kept. What is there already is not done again: a run that was killed goes on.
    on_progress : callable, optional
        Called with the shares done and all shares: at the start, and whenever some are done.
    on_note : callable, optional
        Called with a sentence on what went wrong and was mended; a warning unless given.
    retries : int
        How often a share is done again whose process died.

    Raises
    ------
    InvalidInputError
        If an argument is not usable, or the cluster's workers are not: another version, several threads.
    MissingPackageError, AddressError
        If the cluster cannot be reached.
    TargetError
        If a share's process died too often, or the folder cannot be written to.
    Exception
        What `work` raises, at once and of the first share that fails; it is not tried again. Finished shares are kept.
    """
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise InvalidInputError(f"{jobs!r} jobs were given; a number from 1 is needed.")
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise InvalidInputError(f"{retries!r} retries were given; a number from 0 is needed.")
    if cluster is not None and jobs != 1:
        raise InvalidInputError(f"A cluster and {jobs} jobs were given; a cluster's workers are its jobs. Give one.")
    note = on_note or (lambda text: warnings.warn(text, stacklevel=3))
    name = name_of(work)
    texts = [canonical(share, index) for index, share in enumerate(shares)]
    times = Counter(texts)
    first = {text: index for index, text in reversed(list(enumerate(texts)))}
    tasks = [Task(first[text], name, text) for text in times]
    store = None if folder is None else Store(folder, tasks)
    found: dict[str, Result] = {}
    for task in tasks:
        kept = None if store is None else store.load(task, note)
        if kept is not None:
            found[task.text] = kept
    finished = sum(times[text] for text in found)
    if on_progress is not None:
        on_progress(finished, len(texts))
    left = [task for task in tasks if task.text not in found]
    with contextlib.closing(_doing(left, jobs, cluster, retries, note)) as results:
        for task, result in results:
            if store is not None:
                store.keep(task, result)
            found[task.text] = result
            finished += times[task.text]
            if on_progress is not None:
                on_progress(finished, len(texts))
    return [found[text] for text in texts]


def _doing(
    tasks: Sequence[Task], jobs: int, cluster: str | None, retries: int, on_note: Callable[[str], None]
) -> Generator[tuple[Task, Result], None, None]:
    if not tasks:
        return
    if cluster is not None:
        yield from on_cluster(tasks, cluster, retries)
    elif jobs > 1:
        yield from side_by_side(tasks, jobs, retries, on_note)
    else:
        yield from _one_by_one(tasks)


def _one_by_one(tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
    for task in tasks:
        yield task, done(task)
