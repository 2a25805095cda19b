"""5' alternative splicing: how often donor SD1 is used rather than SD2, from the sequence (§5.1).

A table of splicing has no header, one line a sequence, and four columns parted by tabs: barcode,
sequence, reads at SD1, reads at SD2. The target is SD1/(SD1 + SD2), and 0 where neither has reads.
Anybody's own table goes through the same door as the authors' (`table=`), zipped by gzip or not.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from deimos.tasks import stand_ins
from deimos.tasks.authors import AUTHORS_INITIAL_SETS
from deimos.tasks.files import ROOT, data_folder, fetch, unpacked
from deimos.tasks.task import Task, checksum, hold_out

AUTHORS_FILE = "5SS_compressed.txt"
AUTHORS_URL = (
    f"https://raw.githubusercontent.com/unagpal/Active-Learning-Splicing/b1d4f3b/{AUTHORS_FILE}"
)
AUTHORS_BLOB_ID = "4a15ec0920bf1d3a7cc91f7f6e5643cde34897a4"
N_SEQUENCES = 265_137
GEO_FILES = ("GSM1911085_A5SS_seq.txt.gz", "GSM1911086_A5SS_spliced_reads.txt.gz")  # of GSE74070
GEO_URL = "https://ftp.ncbi.nlm.nih.gov/geo/samples/GSM1911nnn/{sample}/suppl/{file}"
N_SIMULATED = 6_000

Library = tuple[UInt8[Tensor, "n L"], Float[Tensor, " n"]]  # A, C, G, T as 0 to 3; usage of SD1


def load_splicing(scale: str, table: str | Path | None = None) -> Task:
    """The library of Rosenberg et al. (2015), 265,137 sequences of 101 nt, or one's own `table`.

    A relative path is taken from the repository's root. A tenth is held out to test on;
    `splits.for_repeat` draws it anew for each repeat.
    """
    if table is not None:
        return _task(
            read_splicing_table(ROOT / table), f"own table {Path(table).name}", stand_in=True
        )
    authors = _authors_table() or _geo_tables()
    if authors is not None:
        return _task(
            *authors, initial_sets=json.loads(AUTHORS_INITIAL_SETS.read_text())["splicing"]
        )
    if scale == "paper":
        raise FileNotFoundError(
            f"the splicing library is neither in {_folder()} nor to be downloaded: put "
            f"{AUTHORS_FILE}, or {' and '.join(GEO_FILES)}, there, or use SCALE=quick"
        )
    codes, sd1, sd2 = stand_ins.library(N_SIMULATED, np.random.default_rng(0))
    library = torch.from_numpy(codes), usage(sd1, sd2)
    return _task(library, f"stand-in: {N_SIMULATED:,} simulated sequences", stand_in=True)


def usage(sd1: np.ndarray, sd2: np.ndarray) -> Float[Tensor, " n"]:
    """SD1/(SD1 + SD2), and 0 without reads, as the authors have it."""
    return torch.from_numpy(sd1 / np.maximum(sd1 + sd2, 1)).float()


def read_splicing_table(file: Path) -> Library:
    """A four-column table; ValueError says what is wrong with it and in which line."""
    rows = []
    for number, line in enumerate(_lines(file), 1):
        columns = line.split(b"\t")
        if len(columns) != 4:
            raise ValueError(
                f"{file} line {number} has {len(columns)} columns, not the four of barcode, "
                f"sequence, SD1 and SD2, parted by tabs"
            )
        rows.append((number, *columns[1:]))
    return _library(file, rows)


def read_geo(sequences: Path, reads: Path) -> Library:
    """GEO's two files, each with a header: barcode and sequence; barcode and reads by position.

    SD1 is position 0 of the intron and SD2 position 44, fields 1 and 45. Both files have the
    barcodes in the same order, which is checked.
    """
    left_lines, right_lines = _lines(sequences), _lines(reads)
    if len(left_lines) != len(right_lines):
        raise ValueError(
            f"{sequences} has {len(left_lines):,} lines and {reads.name} has {len(right_lines):,}"
        )
    rows = []
    for number, (left, right) in enumerate(zip(left_lines[1:], right_lines[1:], strict=True), 2):
        sequence, counts = left.split(b"\t"), right.split(b"\t", 46)
        if len(sequence) != 2 or len(counts) < 46 or sequence[0] != counts[0]:
            raise ValueError(
                f"line {number} of {sequences.name} and of {reads} is not the same barcode with "
                f"its sequence and with its reads at 45 positions or more"
            )
        rows.append((number, sequence[1], counts[1], counts[45]))
    return _library(reads, rows)


def _lines(file: Path) -> list[bytes]:
    """The lines of a text file that is whole."""
    text = unpacked(file)
    lines = text.splitlines()
    if not lines:
        raise ValueError(f"{file} is empty")
    if lines[0].lstrip().startswith(b"<"):
        raise ValueError(f"{file} line 1 is that of a web page, not of a table")
    if not text.endswith((b"\n", b"\r")):
        raise ValueError(
            f"{file} line {len(lines)}, the last, has no line end: the file is cut short"
        )
    return lines


def _library(file: Path, rows: Sequence[tuple[int, bytes, bytes, bytes]]) -> Library:
    """Line number, sequence and counts of every row, checked and turned into numbers.

    A sequence that comes twice is two points: the library may hold it under two barcodes.
    """
    if not rows:
        raise ValueError(f"{file} has a header and nothing below it")
    numbers, sequences, sd1, sd2 = zip(*rows, strict=True)
    codes = encode(file, numbers, sequences)
    for number, *counts in zip(numbers, sd1, sd2, strict=True):
        if not all(count.isdigit() and len(count) < 16 for count in counts):
            got = " and ".join(repr(count.decode(errors="replace")) for count in counts)
            raise ValueError(
                f"{file} line {number}: reads are whole numbers from 0 to 10¹⁵, got {got}"
            )
    sd1, sd2 = (np.array(list(map(float, counts))) for counts in (sd1, sd2))
    return codes, usage(sd1, sd2)


def encode(file: Path, lines: Sequence[int], sequences: Sequence[bytes]) -> UInt8[Tensor, "n L"]:
    """A, C, G, T as 0 to 3; ValueError names the first of the `lines` that is not like the rest."""
    length = len(sequences[0])
    for line, sequence in zip(lines, sequences, strict=True):
        if len(sequence) != length or not length:
            raise ValueError(
                f"{file} line {line} has a sequence of {len(sequence)} nt, the first has {length}: "
                f"the net takes one length"
            )
    to_code = np.full(256, 4, np.uint8)
    to_code[list(b"ACGT")] = range(4)
    codes = to_code[np.frombuffer(b"".join(sequences), np.uint8)].reshape(-1, length)
    strange = (codes == 4).any(1)
    if strange.any():
        line = lines[strange.argmax()]
        raise ValueError(f"{file} line {line}: a sequence is written in A, C, G and T alone")
    return torch.from_numpy(codes)


def _task(
    library: Library,
    source: str,
    stand_in: bool = False,
    initial_sets: Iterable[Iterable[int]] = (),
) -> Task:
    x, y = library
    if len(x) < 10:
        raise ValueError(f"{source} has {len(x)} sequences, wanted 10 or more: a tenth is held out")
    train_ids, test_ids = hold_out(torch.arange(len(x)), len(x) // 10, np.random.default_rng(0))
    return Task(
        name="splicing",
        x=x,
        y=y,
        train_ids=train_ids,
        test_x=x[test_ids],
        test_y=y[test_ids],
        n_classes=1,
        source=source,
        checksum=checksum([x, y]),
        stand_in=stand_in,
        initial_sets=tuple(tuple(ids) for ids in initial_sets),
        test_per_repeat=True,
    )


def _folder() -> Path:
    return data_folder() / "splicing"


def _authors_table() -> tuple[Library, str] | None:
    file = fetch(AUTHORS_URL, _folder() / AUTHORS_FILE, _check_blob_id)
    return file and (read_splicing_table(file), AUTHORS_FILE)


def _geo_tables() -> tuple[Library, str] | None:
    files = [
        fetch(GEO_URL.format(sample=file[:10], file=file), _folder() / file, _lines)
        for file in GEO_FILES
    ]
    if None in files:
        return None
    library = read_geo(*files)
    if library[0].shape != (N_SEQUENCES, 101):
        raise ValueError(
            f"{files[1]} gives {len(library[0]):,} sequences of {library[0].shape[1]} nt, "
            f"not {N_SEQUENCES:,} of 101: delete it and {files[0].name} and run again"
        )
    return library, "GSE74070"


def _check_blob_id(file: Path) -> None:
    """git's name for the file's content, by which the authors' repository knows it."""
    whole = unpacked(file)
    found = hashlib.sha1(b"blob %d\0" % len(whole) + whole, usedforsecurity=False).hexdigest()
    if found != AUTHORS_BLOB_ID:
        raise ValueError(
            f"{file} is not the authors' (git blob id {found}, not {AUTHORS_BLOB_ID}), and a table "
            f"of your own goes in as `table`"
        )
