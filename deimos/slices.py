"""A slice of a notebook's fleets: some methods and repeats at one batch size, for one worker.

What a member does depends on nothing but itself, so that slices give the ids of the whole fleet.
"""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Slice:
    """The members of a notebook's fleets at one batch size that have these methods and repeats."""

    batch_size: int
    methods: tuple[str, ...]
    repeats: tuple[int, ...]

    def __str__(self) -> str:
        repeats = ", ".join(map(str, self.repeats))
        return f"b{self.batch_size} · {', '.join(self.methods)} · repeat {repeats}"

    def covers(self, batch_size: int, method: str, repeat: int) -> bool:
        """Whether this member is one of the slice's."""
        return batch_size == self.batch_size and method in self.methods and repeat in self.repeats

    def written(self) -> str:
        """As a tag holds it."""
        return json.dumps(asdict(self))


def read(tag: str | None) -> Slice | None:
    """What `written` wrote; None of None."""
    if tag is None:
        return None
    told = json.loads(tag)
    return Slice(told["batch_size"], tuple(told["methods"]), tuple(told["repeats"]))
