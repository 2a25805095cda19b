"""A table's file as text: what it is written in, where its lines part, and that it has a header.

Nothing is guessed: what may be understood in two ways is refused in a sentence that says how to
save it instead.
"""

import csv
import io
import re
import zipfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pandas as pd

from deimos.tasks.files import unpacked

NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
LETTERS = re.compile(r"\s*[ACGTUacgtu]{10,}\s*")
NAMELESS = "Unnamed: {}"  # what pandas calls a column without a name
AT_LEAST = 8  # numbers in ascending order that are names of columns, such as wavelengths

# How a file that is no table begins, and what it then is.
BEGINNINGS = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook: save it as CSV UTF-8"),
    (b"PAR1", "a Parquet file: write it out as CSV"),
    (b"ARROW1", "a Feather file: write it out as CSV"),
    (b"\x89HDF", "an HDF5 file: write the table in it out as CSV"),
    (b"SQLite format 3", "an SQLite database: write the table in it out as CSV"),
    (b"\x93NUMPY", "an array of numpy's: call it .npy"),
    (b"\x80\x04", "a pickle, which is never opened: write it out as CSV"),
    (b"\x80\x05", "a pickle, which is never opened: write it out as CSV"),
    (b"BZh", "packed by bzip2: unpack it"),
    (b"\xfd7zXZ", "packed by xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd: unpack it"),
    (b"7z\xbc\xaf", "packed by 7-Zip: unpack it"),
    (b"Rar!", "packed by RAR: unpack it"),
    (b"RDX", "an R workspace: write the table out by write.csv(..., row.names = FALSE)"),
    (b"MATLAB", "a MATLAB file: write the table in it out as CSV"),
    (b"%PDF", "a PDF: save the table in it as CSV"),
    (b"\x89PNG", "an image: give the folder it is in"),
    (b"\xff\xd8\xff", "an image: give the folder it is in"),
)
TEXTS = (  # of texts
    ("<", "a web page, not a table"),
    ("{", "JSON: write it out as CSV"),
    ("[", "JSON: write it out as CSV"),
    (">", "FASTA: write it out as a table with the columns id and sequence"),
)


def read_text_table(file: Path) -> pd.DataFrame:
    """A table with a header, all of it as text to the letter; its index is the line of each row.

    Commas, tabs, semicolons or bars part the columns. Rows without any content are left out.
    """
    text = decoded(file, unpacked(file))
    lines, rows = _rows(file, text)
    if not rows:
        raise ValueError(f"{file} is empty, not a table")
    header, body = [name.strip() for name in rows[0]], rows[1:]
    if not body:
        raise ValueError(f"{file} has a header and nothing below it")
    header = _of_one_length(file, header, body, lines)
    _check_header(file, header, body[:5])
    names = [name or NAMELESS.format(at) for at, name in enumerate(header)]
    columns = dict(zip(names, zip(*body, strict=True), strict=True))
    table = pd.DataFrame(columns, dtype=str, index=pd.Index(lines[1:]))
    bare = [n for n in names if re.fullmatch(r"Unnamed: \d+", n) and not table[n].str.strip().any()]
    return table.drop(columns=bare)


def decoded(file: Path, content: bytes) -> str:
    """The text of a table; ValueError says what a file is that is none."""
    if not content.strip():
        raise ValueError(f"{file} is empty, not a table")
    for beginning, kind in BEGINNINGS:
        if content.startswith(beginning):
            raise ValueError(f"{file} is {kind}")
    if content.startswith(b"PK\x03\x04"):
        raise ValueError(f"{file} is {_packed(content)}")
    if content[257:262] == b"ustar":
        raise ValueError(f"{file} is a tar archive: unpack it")
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{file} line {line} has a letter that is not in UTF-8: save it as CSV UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError(f"{file} is no text in UTF-8 (UTF-16, or no table): save it as CSV UTF-8")
    for beginning, kind in TEXTS:
        if text.lstrip().startswith(beginning):
            raise ValueError(f"{file} is {kind}")
    return text


def _packed(content: bytes) -> str:
    """The kind of a zip archive: a workbook of some kind, or files packed together."""
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except zipfile.BadZipFile:
        return "a zip archive that is damaged"
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook: save the sheet as CSV UTF-8"
    if "content.xml" in names or "Index/Document.iwa" in names:
        return "a workbook: save the sheet as CSV"
    if any(name.endswith("data.pkl") for name in names):
        return "a file of PyTorch's: write its arrays as x and y by numpy.savez"
    if any(name.endswith(".npy") for name in names):
        return "an .npz under another name: call it so"
    return "a zip archive: unpack it"


def _rows(file: Path, text: str) -> tuple[list[int], list[list[str]]]:
    """The rows that have content, as lists of fields, and the line that each begins in."""
    first = 0
    if re.match(r"sep=.[\r\n]", text):  # what Excel takes for itself
        by, first = text[4], 1
    else:
        by = _separator(text)
    if text.startswith("#"):
        raise ValueError(
            f"{file} line 1 begins with #: take comments out, and the # before a header"
        )
    lines, rows, begins = [], [], 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=by, strict=True)
    try:
        for row in reader:
            if begins > first and any(field.strip() for field in row):
                lines.append(begins)
                rows.append(row)
            begins = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{file} line {begins} is no row of a table that can be read ({error}): see to its "
            f"quotation marks"
        ) from error
    return lines, rows


def _separator(text: str) -> str:
    """The separator of columns: it parts the first rows into as many fields each as there are.

    Where nothing does, what parts the header.
    """
    best = (False, 1, ",")
    for by in (",", "\t", ";", "|"):
        reader = csv.reader(io.StringIO(text[:100_000], newline=""), delimiter=by)
        try:
            counts = [len(row) for row, _ in zip(reader, range(20), strict=False) if row]
        except csv.Error:
            continue
        counts = counts[:-1] if len(text) > 100_000 and len(counts) > 1 else counts
        if counts and counts[0] > 1:
            best = max(best, (len(set(counts)) == 1, counts[0], by), key=lambda one: one[:2])
    return best[2]


def _of_one_length(
    file: Path, header: list[str], body: list[list[str]], lines: list[int]
) -> list[str]:
    """The header, once every row has as many fields; commas after the last field are cut off."""
    n = len(header)
    if all(len(row) == n + 1 for row in body):
        if any(row[-1].strip() for row in body):
            raise ValueError(
                f"{file} has {n} names of columns and {n + 1} columns: the rows' names have no "
                f"name, write one before the others"
            )
        for row in body:
            del row[-1]
    for row, line in zip(body, lines[1:], strict=True):
        if len(row) != n:
            raise ValueError(
                f"{file} line {line} has {len(row)} fields, the header has {n}: quote a field that "
                f"has the separator in it, and fill up rows that are short"
            )
    return header


def _check_header(file: Path, header: list[str], rows: list[list[str]]) -> None:
    """ValueError for names that come twice, and for a header that is data; `rows` follow it."""
    twice = [name for name, n in Counter(filter(None, header)).items() if n > 1]
    data = [name for name in header if NUMBER.fullmatch(name)]
    values = [float(name) for name in data]
    at = [place for place, name in enumerate(header) if NUMBER.fullmatch(name)]
    rises = len(values) >= AT_LEAST and _in_order(values)
    rises = rises and not all(_in_order([row[place] for place in at]) for row in rows)
    counts = values in ([*range(len(values))], [*range(1, len(values) + 1)])
    alike = len(values) < 3 and all(re.fullmatch("[0-9]*", field.strip()) for field in rows[0])
    if rises or (counts and not alike):
        data = []  # numbered columns, or columns named by wavelengths and the like
    data += [name for name in header if LETTERS.fullmatch(name)]
    data += [name for name in header if re.search(r"\.(png|jpe?g)$", name, re.IGNORECASE)]
    if data:
        shown = ", ".join(header)
        raise ValueError(
            f"{file} has no header, or {data[0]!r} is the name of a column: write a line of names "
            f"above '{shown[:60]}{'…' if len(shown) > 60 else ''}', such as id,sequence,label"
        )
    if twice:
        raise ValueError(f"{file} has two columns called {twice[0]!r}: give each a name of its own")


def _in_order(cells: list[str] | list[float]) -> bool:
    """True of numbers that rise from each to the next."""
    if not all(isinstance(cell, float) or NUMBER.fullmatch(cell) for cell in cells):
        return False
    return all(float(a) < float(b) for a, b in pairwise(cells))
