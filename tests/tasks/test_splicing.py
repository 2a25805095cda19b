"""The library's sequences and usages arrive as the file has them, or one sentence says why not."""

import gzip
import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from deimos.tasks import splicing, stand_ins
from deimos.tasks.task import hold_out, task_of_repeat

UNREACHABLE = "http://127.0.0.1:9/{file}{sample}"


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty data folder and no network."""
    monkeypatch.setenv("DEIMOS_DATA", str(tmp_path))
    monkeypatch.setattr(splicing, "AUTHORS_URL", UNREACHABLE)
    monkeypatch.setattr(splicing, "GEO_URL", UNREACHABLE)
    return tmp_path


def sequences(n: int, seed: int = 0, length: int = 101) -> list[str]:
    letters = np.random.default_rng(seed).integers(0, 4, (n, length))
    return ["".join("ACGT"[code] for code in row) for row in letters]


def authors_table(n: int = 40) -> str:
    """A table in the authors' format: no header; barcode, sequence, SD1, SD2."""
    rows = enumerate(sequences(n))
    return "".join(f"{i:020d}\t{sequence}\t{i}\t{2 * i}\n" for i, sequence in rows)


def geo_tables(n: int = 40) -> tuple[str, str]:
    """The same content as GEO has it: two files with headers, reads by position of the intron."""
    seq = "\tSeq\n" + "".join(f"{i:020d}\t{s}\n" for i, s in enumerate(sequences(n)))
    head = "\t".join(["", *map(str, range(304))]) + "\n"
    lines = []
    for i in range(n):
        counts = ["7"] * 304
        counts[0], counts[44] = str(i), str(2 * i)
        lines.append("\t".join([f"{i:020d}", *counts]) + "\n")
    return seq, head + "".join(lines)


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def test_usage_is_the_share_of_sd1_and_nothing_where_there_are_no_reads(tmp_path):
    table = tmp_path / "table.txt"
    table.write_text("b1\tACGT\t3\t1\nb2\tTTTT\t0\t0\nb3\tGGGG\t0\t12\n")
    codes, usage = splicing.read_splicing_table(table)
    assert codes.tolist() == [[0, 1, 2, 3], [3] * 4, [2] * 4] and codes.dtype == torch.uint8
    assert usage.tolist() == [0.75, 0, 0]


def test_ones_own_table_may_be_zipped_and_of_any_length(tmp_path):
    table = tmp_path / "exons.tsv.gz"
    rows = [f"b\t{sequence}\t1\t3\n" for sequence in sequences(50, length=70)]
    table.write_bytes(gzip.compress("".join(rows).encode()))
    task = splicing.load_splicing("paper", table=table)
    assert task.x.shape == (50, 70) and task.y.tolist() == [0.25] * 50
    assert len(task.test_x) == 5 and task.source == "own table exons.tsv.gz" and task.stand_in
    assert task.initial_sets == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("<!DOCTYPE html>\n<html></html>\n", "line 1 is that of a web page"),
        ("b\tACGT\t1\t2\nb\tACGT\t1\n", "line 2 has 3 columns, not the four"),
        ("b,ACGT,1,2\n", "line 1 has 1 columns"),
        ("b\tACGT\t1\t2\nb\tACG\t1\t2\n", "line 2 has a sequence of 3 nt, the first has 4"),
        ("b\tACGT\t1\t2\nb\tACNT\t1\t2\n", "line 2: a sequence is written in A, C, G and T"),
        ("b\t\t1\t2\n", "line 1 has a sequence of 0 nt"),
        ("b\tACGT\t1\t-2\n", "line 1: reads are whole numbers from 0 to 10¹⁵, got '1' and '-2'"),
        ("b\tACGT\t1.5\t2\n", "line 1: reads are whole numbers"),
        ("barcode\tACGT\tSD1\tSD2\n", "line 1: reads are whole numbers"),
        ("b\tACGT\t1\t2\nb\tACGT\t1\t2", "line 2, the last, has no line end"),
        ("b\tACGT\t1\t2\nb\tAcGT\t1\t2\n", "line 2: a sequence is written in A, C, G and T"),
        ("b\tACGT\t1\t2\n\nb\tACGT\t1\t2\n", "line 2 has 1 columns"),
        ("b\tACGT\t1\t2\textra\n", "line 1 has 5 columns"),
        (f"b\tACGT\t{'9' * 400}\t2\n", "line 1: reads are whole numbers from 0 to 10¹⁵"),
        ("b\tACGT\t1\t2\n" * 9, "has 9 sequences, wanted 10 or more"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path, text, complaint):
    table = tmp_path / "mine.txt"
    table.write_text(text)
    with pytest.raises(ValueError, match=f"mine.txt.*{complaint}"):
        splicing.load_splicing("quick", table=table)


@pytest.mark.parametrize("cut", [5, 20, 400])
def test_a_zipped_table_that_is_cut_short_is_named(tmp_path, cut):
    table = tmp_path / "mine.gz"
    table.write_bytes(gzip.compress(authors_table().encode())[:-cut])
    with pytest.raises(ValueError, match="mine.gz is damaged or cut short"):
        splicing.load_splicing("quick", table=table)


def test_a_zipped_table_of_which_one_bit_differs_is_named(tmp_path):
    table, content = tmp_path / "mine.gz", bytearray(gzip.compress(authors_table().encode()))
    for place in range(20, len(content), 97):
        content[place] ^= 4
        table.write_bytes(content)
        with pytest.raises(ValueError, match="mine.gz is damaged or cut short"):
            splicing.load_splicing("quick", table=table)
        content[place] ^= 4


@pytest.mark.parametrize("place", ["missing.txt", "folder.txt"])
def test_a_table_that_cannot_be_read_is_named(tmp_path, place):
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(OSError, match=f"{place} cannot be read .*: see that it is a file"):
        splicing.load_splicing("quick", table=tmp_path / place)


def test_a_sequence_that_comes_twice_is_two_points(tmp_path):
    table = tmp_path / "mine.txt"
    table.write_text(authors_table(20) + authors_table(20))
    task = splicing.load_splicing("quick", table=table)
    assert len(task.x) == 40 and torch.equal(task.x[:20], task.x[20:])
    assert len(task.train_ids) == 36 and len(task.test_x) == 4


def test_the_authors_file_is_known_by_its_blob_id(nowhere, monkeypatch):
    content = authors_table().encode()
    file = nowhere / "splicing" / "5SS_compressed.txt"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ValueError, match="5SS_compressed.txt is not the authors'"):
        splicing.load_splicing("quick")
    monkeypatch.setattr(splicing, "AUTHORS_BLOB_ID", blob_id(content))
    task = splicing.load_splicing("paper")
    assert task.source == "5SS_compressed.txt" and not task.stand_in
    assert task.x.shape == (40, 101) and [len(ids) for ids in task.initial_sets] == [75] * 3


def test_both_forms_of_the_library_are_the_same_library(nowhere, monkeypatch):
    monkeypatch.setattr(splicing, "N_SEQUENCES", 40)
    folder = nowhere / "splicing"
    folder.mkdir()
    for name, text in zip(splicing.GEO_FILES, geo_tables(), strict=True):
        (folder / name).write_bytes(gzip.compress(text.encode()))
    (nowhere / "table.txt").write_text(authors_table())
    task = splicing.load_splicing("paper")
    assert task.source == "GSE74070"
    assert task.checksum == splicing.load_splicing("paper", table=nowhere / "table.txt").checksum


def test_geos_files_in_different_orders_are_refused(tmp_path):
    seq, reads = geo_tables()
    first, *rest = seq.splitlines(keepends=True)
    (tmp_path / "seq").write_text(first + "".join(reversed(rest)))
    (tmp_path / "reads").write_text(reads)
    with pytest.raises(ValueError, match="line 2 of seq and of .*reads is not the same barcode"):
        splicing.read_geo(tmp_path / "seq", tmp_path / "reads")
    (tmp_path / "seq").write_text(first + "".join(rest[:-1]))
    with pytest.raises(ValueError, match="has 40 lines and reads has 41"):
        splicing.read_geo(tmp_path / "seq", tmp_path / "reads")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda seq, reads: (seq.split("\n")[0] + "\n", reads.split("\n")[0] + "\n"),
            "a header and",
        ),
        (lambda seq, reads: (seq, reads[:-1]), "reads.txt line 41, the last, has no line end"),
        (
            lambda seq, reads: (seq, reads.replace("\t7", "")),
            "line 2 of seq.txt and of .*reads.txt",
        ),
        (lambda seq, reads: (seq.replace("A", "N"), reads), "reads.txt line 2: a sequence is"),
        (lambda seq, reads: (seq, reads.replace("\t2\t", "\t2.5\t")), "line 3: reads are whole"),
        (lambda seq, reads: ("<html>\n" + seq, reads), "seq.txt line 1 is that of a web page"),
        (lambda seq, reads: ("", reads), "seq.txt is empty"),
    ],
)
def test_what_is_wrong_with_geos_files_is_said_with_the_line(tmp_path, change, complaint):
    for name, text in zip(("seq.txt", "reads.txt"), change(*geo_tables()), strict=True):
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=complaint):
        splicing.read_geo(tmp_path / "seq.txt", tmp_path / "reads.txt")


def test_geos_files_of_another_library_are_refused(nowhere):
    (nowhere / "splicing").mkdir()
    for name, text in zip(splicing.GEO_FILES, geo_tables(), strict=True):
        (nowhere / "splicing" / name).write_bytes(gzip.compress(text.encode()))
    with pytest.raises(
        ValueError, match="reads.txt.gz gives 40 sequences of 101 nt, .*: delete it"
    ):
        splicing.load_splicing("quick")


def test_at_paper_scale_a_missing_library_is_an_error_that_says_what_to_put_where(nowhere):
    with pytest.raises(FileNotFoundError, match="put 5SS_compressed.txt, or GSM1911085.*there"):
        splicing.load_splicing("paper")
    assert not any(file.is_file() for file in nowhere.rglob("*"))


def test_the_stand_in_has_the_construct_and_a_usage_that_can_be_learned(nowhere):
    task = splicing.load_splicing("quick")
    assert task.stand_in and task.source.startswith("stand-in")
    assert task.checksum == splicing.load_splicing("smoke").checksum
    for position, base in enumerate(stand_ins.CONSTRUCT):
        seen = set(task.x[:, position].tolist())
        assert seen == ({0, 1, 2, 3} if base == "N" else {"ACGT".index(base)})
    # The number of G less that of T in either stretch explains a good part of it already.
    of_base = torch.tensor([0.0, 0, 1, -1])[task.x.long()]
    difference = of_base[:, 7:32].sum(1) - of_base[:, 50:75].sum(1)
    assert 0.5 < np.corrcoef(difference, task.y)[0, 1] < 0.9


def test_each_repeat_has_a_test_set_of_its_own_without_its_initial_set(nowhere):
    task = splicing.load_splicing("smoke")
    initial = tuple(range(75))
    task = replace(task, initial_sets=(initial,))
    repeats = [task_of_repeat(task, r, np.random.default_rng(r)) for r in (1, 2)]
    for repeat in repeats:
        assert len(repeat.test_x) == 600 and len(repeat.train_ids) == 5_400
        held_out = torch.ones(6_000, dtype=torch.bool)
        held_out[repeat.train_ids] = False
        assert torch.equal(repeat.test_y, task.y[held_out])
        assert torch.equal(repeat.test_x, task.x[held_out])
    assert set(initial) <= set(repeats[0].train_ids.tolist())
    assert not torch.equal(repeats[0].train_ids, repeats[1].train_ids)
    again = task_of_repeat(task, 1, np.random.default_rng(1))
    assert torch.equal(again.train_ids, repeats[0].train_ids)


def test_a_task_with_one_test_set_keeps_it_in_every_repeat(nowhere, rng):
    task = replace(splicing.load_splicing("smoke"), test_per_repeat=False)
    assert task_of_repeat(task, 2, rng) is task


def test_too_few_rows_are_not_split():
    with pytest.raises(ValueError, match="9 rows are too few to hold 0 of them out"):
        hold_out(torch.arange(9), 0, np.random.default_rng(0))
