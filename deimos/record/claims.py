"""Work is claimed before it is begun, so that two executions never do the same work at once.

A claim is a tag on the run of the execution that makes it, and counts for as long as that execution
is RUNNING. Whoever claims first writes and then looks, and takes the claim back if anyone else has
one to the same work. Of two that write at once, the later to write sees the other: never do both
go on. This needs no more than a store that shows everyone what was written.

Beside an SQLite file a claim ends with its process at once. On a server it ends after some minutes
of silence (`executions.SILENCE`); one that only was silent so long, such as a suspended machine,
then does the same work as its heir: the same numbers twice, of which the record shows one.
"""

import logging
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deimos.record import queries, store
from deimos.record.executions import Experiment, end_the_dead

_LOG = logging.getLogger(__name__)
CLAIM_PREFIX = "claim."
PAUSE_BETWEEN_LOOKS = 1.0  # seconds, about, between two looks


@contextmanager
def claim(experiment: Experiment, names: Sequence[str]) -> Iterator[None]:
    """Hold `names`, words that stand for work, against all other executions of this notebook.

    While another that lives has one of them, this says so once and waits.
    """
    told, seen = None, {}
    while names:
        rivals = _rivals(experiment, names, seen)
        if not rivals:
            with _written(experiment, names):
                rivals = _rivals(experiment, names, seen)
                if not rivals:
                    yield
                    return
        if rivals != told:
            _LOG.warning("%s: %s at work on the same runs; waiting", experiment.name, rivals)
            told = rivals
        time.sleep(PAUSE_BETWEEN_LOOKS * random.uniform(0.5, 1.5))
    yield


@contextmanager
def _written(experiment: Experiment, names: Sequence[str]) -> Iterator[None]:
    tag = CLAIM_PREFIX + uuid.uuid4().hex[:8]
    store.client().set_tag(experiment.run_id, tag, " ".join(names))
    try:
        yield
    finally:
        store.client().delete_tag(experiment.run_id, tag)


def _rivals(experiment: Experiment, names: Sequence[str], seen: dict) -> str:
    """The other executions that hold some of `names`, in words; nothing if there are none."""
    end_the_dead(seen)
    rivals = []
    for run in queries.search([experiment.id], status="RUNNING", kind="execution"):
        tags = [value for tag, value in run.data.tags.items() if tag.startswith(CLAIM_PREFIX)]
        if run.info.run_id != experiment.run_id and set(names) & set(" ".join(tags).split()):
            rivals.append(f"execution {run.info.run_id} ({run.data.tags['processes']})")
    return ", ".join(sorted(rivals)) + (" is" if len(rivals) == 1 else " are") if rivals else ""
