"""Points as the command for files has them, whatever files they came from."""

from dataclasses import dataclass

import pandas as pd
from jaxtyping import Num
from torch import Tensor

from deimos.tasks.task import checksum


@dataclass(frozen=True)
class Points:
    """Points of a pool or of a labelled set: `table` has a row a point, as in the file."""

    kind: str  # sequences, images or vectors
    x: Num[Tensor, "n *input"]
    table: pd.DataFrame
    features: tuple[str, ...] = ()  # the columns of a table that x is made of
    id: str | None = None
    notes: tuple[str, ...] = ()  # sentences on what was read and how, and what was not
    label: str | None = None  # of labelled points: the column of a table that says it

    @property
    def checksum(self) -> str:
        """Checksum that the record knows the data by."""
        return checksum([self.x])

    def describe(self) -> str:
        """Describe one input: its columns, length, size and channels."""
        if self.kind == "sequences":
            column = f"column {self.features[0]!r}, " if self.features else ""
            return f"{column}{self.x.shape[1]} nt each"
        if self.kind == "images":
            height, width = self.x.shape[-2:]
            colour = "3 channels, red first" if self.x.dim() == 4 else "grey, 1 channel"
            return f"{height} × {width} pixels (height × width), {colour}"
        names = [repr(name) for name in self.features]
        shown = names if len(names) <= 12 else [*names[:10], f"… {len(names) - 10} more"]
        columns = f": {', '.join(shown)}" if names else ""
        n = self.x.shape[1]
        return f"{n} number{'s' if n > 1 else ''} each{columns}"
