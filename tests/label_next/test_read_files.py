"""Tables, folders and arrays as people have them: taken for what they are, or refused in a line."""

import gzip
import io
import json
import re
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from deimos.label_next import repeats
from deimos.label_next.files import images, read_labelled, read_pool
from deimos.label_next.labels import parse_labels
from deimos.label_next.table_files import read_text_table
from deimos.label_next.tables import Columns
from deimos.tasks import image_files


def numbers(rng, n=40, names="abc"):
    return pd.DataFrame(rng.standard_normal((n, len(names))).round(6), columns=list(names))


def sequences(rng, n, length=25):
    return ["".join(row) for row in rng.choice(list("ACGT"), (n, length))]


def two_tables(place, table, n_pool=25, **labels):
    """The first rows as pool.csv, the others with labels as labelled.csv."""
    table[:n_pool].to_csv(place / "pool.csv", index=False)
    table[n_pool:].assign(**labels).to_csv(place / "labelled.csv", index=False)


# --- what is said --------------------------------------------------------------------------------


def test_what_was_read_as_what_is_said_before_any_work_and_nothing_is_written(look, tmp_path, rng):
    table = numbers(rng)
    table.insert(0, "id", [f"{i:03d}" for i in range(40)])
    table["site"] = "x"
    table.iloc[24, 1:4] = table.iloc[3, 1:4]  # a copy
    two_tables(tmp_path, table, label=["cat", "dog", "dog"] * 5)
    said = look("pool.csv", ["labelled.csv", "labelled.csv"]).splitlines()
    assert said[0] == "pool: 25 vectors; labelled: 15, 2 classes; a net of dense layers"
    assert "input: 3 numbers each: 'a', 'b', 'c'" in said
    assert "id: column 'id'" in said
    assert "label: column 'label', 2 classes: 'cat' 5, 'dog' 10" in said
    assert "pool: 0 of 25 are labelled, 25 open" in said
    again = "15 labelled came again with the same label, counted once"
    assert f"duplicates: 1 of the pool have the input of another; {again}" in said
    assert "note: no input: 'site'" in said
    assert {file.name for file in tmp_path.iterdir()} == {"pool.csv", "labelled.csv"}


def test_values_are_said_with_their_range_and_images_with_their_size(look, tmp_path, rng):
    two_tables(tmp_path, numbers(rng), label=np.linspace(-1, 2.5, 15))
    assert "'label', 15 values from -1 to 2.5, mean 0.75, sd 1.12" in look(
        "pool.csv", "labelled.csv"
    )
    np.savez(tmp_path / "p.npz", x=rng.random((20, 28, 30, 3)))
    np.savez(tmp_path / "l.npz", x=rng.random((20, 28, 30, 3)), y=np.arange(20) % 2)
    said = look("p.npz", "l.npz")
    assert "input: 28 × 30 pixels (height × width), 3 channels, red first" in said
    assert "note: arrays of shape (28, 30, 3): channels last, as Keras has them" in said


def test_labelled_points_of_the_pool_and_those_with_another_input_are_counted(look, tmp_path, rng):
    table = numbers(rng).assign(id=range(100, 140))
    table.to_csv(tmp_path / "pool.csv", index=False)
    labelled = table[:10].assign(label=np.arange(10) / 7)
    labelled.loc[0, "a"] = 9.0
    labelled.to_csv(tmp_path / "labelled.csv", index=False)
    said = look("pool.csv", "labelled.csv")
    assert "pool: 10 of 40 are labelled, 30 open" in said
    assert "1 labelled have an id of the pool and another input" in said


# --- which column is what ------------------------------------------------------------------------


def test_a_coordinate_called_y_is_input_beside_a_label_of_its_own(look, tmp_path, rng):
    table = numbers(rng, names="xy")
    two_tables(tmp_path, table, label=table.y[25:] * 3)
    assert "2 numbers each: 'x', 'y'" in look("pool.csv", "labelled.csv")
    two_tables(tmp_path, table, depth=table.y[25:] * 3)
    said = look("pool.csv", "labelled.csv")
    assert "which of 'y', 'depth' is the label" in said and "--label" in said
    assert "'x', 'y'" in look("pool.csv", "labelled.csv", "--label", "depth")


def test_two_columns_that_may_be_the_label_are_asked_about(look, tmp_path, rng):
    table = numbers(rng)
    two_tables(tmp_path, table, label=table.a[25:], target=table.b[25:])
    assert "which of 'label', 'target' is the label? Say so by --label" in look(
        "pool.csv", "labelled.csv"
    )
    assert "column 'target'" in look("pool.csv", "labelled.csv", "--label", "target")


def test_labels_that_the_pool_has_are_not_read_and_said_so(look, tmp_path, rng):
    table = numbers(rng)
    table["y"] = table.a * 2
    two_tables(tmp_path, table)
    said = look("pool.csv", "labelled.csv")
    assert "'a', 'b', 'c'\n" in said and "'y' is the label, and what the pool has in it is" in said


@pytest.mark.parametrize("name", [None, "index", "X"])
def test_row_numbers_that_programs_write_are_no_input(look, tmp_path, rng, name):
    table = numbers(rng)
    table["label"] = table.a
    table.index.name = name
    table[:25].drop(columns="label").to_csv(tmp_path / "pool.csv")
    table[25:].to_csv(tmp_path / "labelled.csv")
    said = look("pool.csv", "labelled.csv")
    assert "3 numbers each: 'a', 'b', 'c'" in said and "numbers the rows: no input" in said


@pytest.mark.parametrize("name", ["sample_id", "plateID", "row", "position"])
def test_a_column_that_may_number_the_rows_is_asked_about(look, tmp_path, rng, name):
    table = numbers(rng)
    table.insert(0, name, range(40))
    two_tables(tmp_path, table, label=table.a[25:])
    said = look("pool.csv", "labelled.csv")
    assert f"'{name}' numbers the rows, is it input? Say by --input which columns are" in said
    assert "3 numbers each" in look("pool.csv", "labelled.csv", "--input", "a", "b", "c")
    assert "2 numbers each: 'b', 'a'" in look("pool.csv", "labelled.csv", "--input", "b,a")
    assert "'d'" in look("pool.csv", "labelled.csv", "--input", "d")


def test_a_column_has_one_use(look, tmp_path, rng):
    table = numbers(rng, names="xyz")
    two_tables(tmp_path, table)
    inputs = ("--input", "x", "y", "--label", "y")
    assert "'y' is the label and an input: leave it out" in look(
        "pool.csv", "labelled.csv", *inputs
    )
    both = ("--id", "z", "--label", "z")
    assert "'z' is named as the label and as the id" in look("pool.csv", "labelled.csv", *both)


def test_numbers_without_a_name_are_asked_about(look, tmp_path, rng):
    table = numbers(rng)
    table.columns = ["a", "", "c"]
    two_tables(tmp_path, table, label=table.a[25:])
    assert "column 2 has numbers and no name" in look("pool.csv", "labelled.csv")


def test_a_barcode_is_no_input_beside_the_oligo(look, tmp_path, rng):
    table = pd.DataFrame({"barcode": sequences(rng, 40, 20), "oligo": sequences(rng, 40)})
    table["dna"], table["rna"] = rng.integers(5, 200, (2, 40))
    two_tables(tmp_path, table, label=np.arange(15) / 7)
    said = look("pool.csv", "labelled.csv")
    assert "input: column 'oligo', 25 nt" in said and "id: column 'barcode'" in said
    assert "no input: 'dna', 'rna'" in said
    assert "2 numbers each" in look("pool.csv", "labelled.csv", "--input", "dna", "rna")
    table["spacer"] = sequences(rng, 40)
    two_tables(tmp_path, table, label=np.arange(15) / 7)
    assert "which of 'oligo', 'spacer' is the input? Say so by --input" in look(
        "pool.csv", "labelled.csv"
    )
    two_tables(tmp_path, table.drop(columns=["oligo", "spacer"]), label=np.arange(15) / 7)
    assert "which of 'barcode', 'dna', 'rna' is the input" in look("pool.csv", "labelled.csv")


def test_a_strange_letter_does_not_turn_sequences_into_something_else(look, tmp_path, rng):
    table = pd.DataFrame({"oligo": sequences(rng, 40), "dna": range(40)})
    table.loc[7, "oligo"] = "N" + table.oligo[7][1:]
    two_tables(tmp_path, table, label=np.arange(15) / 7)
    assert "pool.csv line 9: a sequence is written in A, C, G and T alone" in look(
        "pool.csv", "labelled.csv"
    )


def test_a_name_that_rows_share_is_no_id(look, tmp_path, rng):
    table = numbers(rng).assign(name=["BRCA1"] * 30 + ["TP53"] * 10)
    two_tables(tmp_path, table, label=table.a[25:])
    said = look("pool.csv", "labelled.csv")
    assert "'name' is not unique ('BRCA1' in lines 2 and 3): no id" in said and "25 open" in said
    assert "--id name is not unique, it has 'BRCA1'" in look(
        "pool.csv", "labelled.csv", "--id", "name"
    )


@pytest.mark.parametrize("cell", ["1,5", "1,234", "-0,25"])
def test_commas_in_numbers_are_told(look, tmp_path, rng, cell):
    table = numbers(rng).astype(str)
    table["b"] = cell
    table[:25].to_csv(tmp_path / "pool.csv", index=False, sep=";")
    table[25:].assign(label=range(15)).to_csv(tmp_path / "labelled.csv", index=False, sep=";")
    assert f"pool.csv line 2 has '{cell}' in 'b': write numbers with a point" in look(
        "pool.csv", "labelled.csv"
    )


def test_numbers_that_single_precision_cannot_tell_apart_are_refused(look, tmp_path, rng):
    table = numbers(rng)
    table["time"] = 1.7e9 + np.arange(40)
    two_tables(tmp_path, table, label=table.a[25:])
    assert "'time' that differ too little for single precision" in look("pool.csv", "labelled.csv")


def test_the_points_that_matter_are_read_by_the_pools_columns(tmp_path, rng):
    table = numbers(rng)
    two_tables(tmp_path, table)
    table[["c", "extra", "a", "b"]] = table.assign(extra=1.0)[["c", "extra", "a", "b"]]
    table[["c", "extra", "a", "b"]].to_csv(tmp_path / "matters.csv", index=False)
    from deimos.label_next.files import read_more

    pool = read_pool(tmp_path / "pool.csv", Columns())
    found = read_more(tmp_path / "matters.csv", Columns(), pool, tmp_path / "pool.csv")
    assert found.x[:25].equal(pool.x)


# --- a table's file ------------------------------------------------------------------------------

PLAIN = 'id,a,label\n007,1.5,cat\ns 2,2.5,"a, b"\n'


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        gzip.compress(PLAIN.encode(), mtime=0),
        PLAIN.replace("\n", "\n\n").encode(),
        PLAIN.replace("\n", ",\n").encode(),  # Excel's empty last column
        (PLAIN + ",,\n,,\n").encode(),  # and empty last rows
        PLAIN.replace(",", "\t").replace("a\t b", "a, b").encode(),
        PLAIN.replace(",", ";").replace("a; b", "a, b").encode(),
        PLAIN.replace(",", "|").replace("a| b", "a, b").encode(),
        b"sep=,\n" + PLAIN.encode(),
    ],
)
def test_one_table_in_many_files(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    table = read_text_table(tmp_path / "t.csv")
    assert table.to_dict("list") == {
        "id": ["007", "s 2"], "a": ["1.5", "2.5"], "label": ["cat", "a, b"]
    }  # fmt: skip


def zipped(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name in names:
            packed.writestr(name, "x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"a,b\n", "has a header and nothing below it"),
        (zipped("xl/workbook.xml"), "is an Excel workbook: save the sheet as CSV UTF-8"),
        (zipped("mimetype", "content.xml"), "is a workbook: save the sheet as CSV"),
        (zipped("pool.csv"), "is a zip archive: unpack it"),
        (zipped("archive/data.pkl"), "is a file of PyTorch's"),
        (b"PK\3\4 and no more", "is a zip archive that is damaged"),
        (b"\xd0\xcf\x11\xe0" + bytes(99), "is an old Excel workbook: save it as CSV UTF-8"),
        (b"PAR1" + bytes(99), "is a Parquet file: write it out as CSV"),
        (b"\x80\x04\x95" + bytes(9), "is a pickle, which is never opened"),
        (b"\x89HDF\r\n" + bytes(9), "is an HDF5 file"),
        (b"BZh91AY" + bytes(9), "is packed by bzip2: unpack it"),
        (gzip.compress(bytes(257) + b"ustar" + bytes(99), mtime=0), "is a tar archive: unpack it"),
        (b"%PDF-1.7", "is a PDF"),
        (b'{"a": [1, 2]}', "is JSON"),
        (json.dumps([{"a": 1}]).encode(), "is JSON"),
        (b">s1\nACGT\n", "is FASTA"),
        ("naïve,b\n1,2\n".encode("latin-1"), "line 1 has a letter that is not in UTF-8"),
        ("a,b\n1,2\n2,ü\n".encode("cp1252"), "line 3 has a letter that is not in UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "is no text in UTF-8 (UTF-16, or no table)"),
        (b"# made by x\na,b\n1,2\n", "line 1 begins with #: take comments out"),
        (b"a,b\n1,2\n# note\n3,4\n", "line 3 has 1 fields, the header has 2"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 fields, the header has 2"),
        (b"a,b\n1,2\n3,4,5\n", "line 3 has 3 fields, the header has 2"),
        (b"a,b\nr1,1,2\nr2,3,4\n", "has 2 names of columns and 3 columns"),
        (b'a,b\n1,"2\n3,4\n', "line 2 is no row of a table that can be read"),
        (b"a,b,a\n1,2,3\n", "has two columns called 'a'"),
        (b"a, a\n1,2\n", "has two columns called 'a'"),
        (b"s1,ACGTACGTACGT\ns2,ACGTACGTACGA\n", "has no header, or 'ACGTACGTACGT' is the name"),
        (b"0.5,1.5,2\n1,2,3\n", "has no header, or '0.5'"),
        (b"a.png,cat\nb.png,dog\n", "has no header, or 'a.png'"),
        (b"0,1\n1,1\n0,0\n", "has no header, or '0'"),
        (b"1,2,4,5,6,7,8,9\n2,3,4,5,6,7,8,11\n", "has no header, or '1'"),  # rows that rise
    ],
)  # fmt: skip
def test_what_is_no_table_is_told_for_what_it_is(tmp_path, content, says):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(says)) as raised:
        read_text_table(tmp_path / "t.csv")
    assert "\n" not in str(raised.value) and "codec" not in str(raised.value)


@pytest.mark.parametrize(
    "names", [list("0123"), list("1234"), [str(400 + 5 * i) for i in range(9)]]
)
def test_columns_that_are_named_by_numbers_have_a_header(tmp_path, names):
    rows = [",".join([*names, "label"]), ",".join(["0.5"] * len(names) + ["cat"])]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    assert list(read_text_table(tmp_path / "t.csv")) == [*names, "label"]


def test_a_message_names_the_line_in_the_file_whatever_stands_above_it(look, tmp_path, rng):
    table = numbers(rng)
    two_tables(tmp_path, table, label=table.a[25:])
    text = 'note,a,b,c\n"two\nlines",1,2,3\n\nx,1,oops,3\n' + "x,1,2,3\n" * 9
    (tmp_path / "pool.csv").write_text(text)
    assert "pool.csv line 5 has 'oops' in 'b', wanted a number" in look("pool.csv", "labelled.csv")


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["007", "008"], ["1e5", "2e5"], ["TRUE", "FALSE"], [" a ", "b"], ["ünïcode", "日本"],
        ["1.0", "2.0"], ["2024-01-05", "2024-01-06"], ["9007199254740993", "9007199254740992"],
        ["1000001", "1000002"], ["123456789012345678901234567890", "2"], ['say "x"', "a, b"],
        ["+", "-"], ["=A1", "@x"],
    ],
)  # fmt: skip
def test_a_class_is_called_what_the_file_calls_it(names):
    found = parse_labels(names * 8, ["somewhere"] * 16)
    assert sorted(found.classes) == sorted(names)
    assert [found.classes[k] for k in found.y] == names * 8


@pytest.mark.parametrize("word", ["NA", "nan", "NaN", "None", "null", "N/A", "#N/A", "<NA>", "?"])
@pytest.mark.parametrize("others", [["cat", "dog"], ["0", "1"], ["0.5", "1.5"]])
def test_words_for_no_label_are_no_class(word, others):
    said = [*others * 6, word]
    with pytest.raises(ValueError, match=re.escape(repr(word))) as raised:
        parse_labels(said, [f"t.csv line {i + 2}" for i in range(13)])
    assert "line 14" in str(raised.value) and "--task classes" in str(raised.value)
    assert word in parse_labels(said, [""] * 13, "classes").classes


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (["cat", "Cat", "dog"] * 4, "'cat', 'Cat' look alike"),
        (["a", "a ", "b"] * 4, "'a', 'a ' look alike"),
        (["é", "e\u0301", "b"] * 4, "look alike"),
        (["TRUE", "True", "FALSE"] * 4, "look alike"),
        (["007", "7", "8"] * 4, "'007' and .* has '7', one number"),
        (["1e2", "100", "8"] * 4, "one number: write it alike"),
        (["1", "2", "1", "2", "1", "bad"], "'bad', which is no number as 5 of the 6 are"),
        (["0,5", "1,5"] * 6, "'0,5': write numbers with a point"),
        ([f"2024-01-{i:02d}" for i in range(1, 20)], "19 different labels of 19 are no classes"),
        (["1e39", "2"] * 6 + ["0.5"], "'1e39', wanted a number"),
        ([str(1_700_000_000.5 + i) for i in range(30)], "differ too little for single precision"),
    ],
)
def test_labels_that_may_be_meant_otherwise_are_refused(said, says):
    with pytest.raises(ValueError, match=says):
        parse_labels(said, [f"line {i}" for i in range(len(said))])


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (np.arange(20) % 2, "classes"),
        (np.arange(30) % 10, "classes"),
        (np.arange(20) % 10, "classes"),
        (1 + np.arange(60) % 17, "classes"),
        (np.array([7, 9] * 4), "classes"),
        (np.array([10, 20, 30, 50] * 5), "classes"),
        (np.arange(30), "values"),
        (np.r_[18:80], "values"),
        (np.r_[18:31, 18:21], None),
        (np.arange(10), None),
        (np.r_[20:40, 20:40], None),
        (np.arange(300) % 100, None),
        (np.array([3, 8]), None),
    ],
)
def test_whole_numbers_are_classes_values_or_asked_about(said, kind):
    texts = list(map(str, said))
    if kind is None:
        with pytest.raises(ValueError, match="say which by --task classes or --task values"):
            parse_labels(texts, texts)
    else:
        found = parse_labels(texts, texts)
        assert bool(found.classes) == (kind == "classes")
        assert "--task values" in found.describe() or kind == "values"
    assert parse_labels(texts, texts, "classes").classes
    assert not parse_labels(texts, texts, "values").classes


def test_ages_never_are_classes_in_one_round_and_values_in_the_next(rng):
    ages = list(map(str, rng.integers(18, 80, 400)))
    kinds = []
    for n in range(8, 400, 7):
        try:
            kinds.append(bool(parse_labels(ages[:n], ages[:n]).classes))
        except ValueError as refusal:
            assert "--task" in str(refusal)
    assert not any(kinds)


# --- labelled twice ------------------------------------------------------------------------------


@pytest.mark.parametrize("with_id", [True, False])
def test_a_point_with_two_labels_is_named_with_both_lines(look, tmp_path, rng, with_id):
    table = pd.DataFrame({"sequence": sequences(rng, 40)})
    if with_id:
        table.insert(0, "id", [f"s{i}" for i in range(40)])
    two_tables(tmp_path, table, label=np.arange(15) / 7)
    other = pd.read_csv(tmp_path / "labelled.csv")
    other.loc[4, "label"] = 9.5
    other[4:5].to_csv(tmp_path / "other.csv", index=False)
    said = look("pool.csv", ["labelled.csv", "other.csv"])
    assert re.search(r"labelled.csv line 6 and .*other.csv line 2 label one point.* twice", said)
    assert ("s29" in said) == with_id and "'9.5'" in said


def test_an_id_of_two_points_is_told_and_equal_labels_count_once(look, tmp_path, rng):
    table = numbers(rng).assign(id=[f"s{i}" for i in range(40)])
    two_tables(tmp_path, table, label=["1", "2", "1.0"] * 5)
    again = pd.read_csv(tmp_path / "labelled.csv", dtype=str)
    again.assign(label=again.label + ".0").replace("1.0.0", "1").to_csv(
        tmp_path / "again.csv", index=False
    )
    assert "15 labelled came again" in look("pool.csv", ["labelled.csv", "again.csv"])
    again.loc[3, "a"] = "77"
    again.to_csv(tmp_path / "again.csv", index=False)
    assert "have one id, 's28', and other inputs" in look("pool.csv", ["labelled.csv", "again.csv"])


def test_points_of_few_different_inputs_may_have_different_labels(look, tmp_path, rng):
    table = pd.DataFrame(rng.integers(0, 2, (60, 3)), columns=list("abc"))
    two_tables(tmp_path, table, n_pool=30, label=np.arange(30) / 7)
    assert "labelled: 30, values" in look("pool.csv", "labelled.csv")


def test_rows_with_and_without_an_id_are_one_point_by_their_input(tmp_path, rng):
    table = numbers(rng).assign(id=[f"s{i}" for i in range(40)])
    two_tables(tmp_path, table, label=list("ab" * 8)[:15])
    bare = pd.read_csv(tmp_path / "labelled.csv").drop(columns="id")
    bare.to_csv(tmp_path / "bare.csv", index=False)
    pool = read_pool(tmp_path / "pool.csv", Columns())
    places = [tmp_path / "labelled.csv", tmp_path / "bare.csv"]
    points, texts, where = read_labelled(places, Columns(), pool, tmp_path / "pool.csv")
    once, texts, _, n_again = repeats.each_once(points, texts, where)
    assert len(once.x) == len(texts) == n_again == 15


# --- images --------------------------------------------------------------------------------------


def saved(place, rng, names, form=(14, 14), mode=None):
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 256, form).astype(np.uint8))
        (image.convert(mode) if mode else image).save(place / name)


def folders(place, rng, **how):
    saved(place, rng, [f"pool/{i:02d}.png" for i in range(12)], **how)
    saved(place, rng, [f"labelled/{'ab'[i % 2]}/{i}.png" for i in range(12)], **how)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", [(20, 30), (20, 30, 3)])
def test_a_picture_stands_as_its_exif_tag_says(tmp_path, rng, turn, form):
    image = Image.fromarray(rng.integers(0, 256, form).astype(np.uint8))
    exif = Image.Exif()
    exif[image_files.ORIENTATION] = turn
    image.save(tmp_path / "a.png", exif=exif)
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    for name in ("a.png", "a.jpg"):
        with Image.open(tmp_path / name) as stored:
            shown = np.asarray(ImageOps.exif_transpose(stored))
        wanted = shown if shown.ndim == 2 else shown.transpose(2, 0, 1)
        assert np.array_equal(images([tmp_path / name])[0], wanted)


@pytest.mark.parametrize(
    ("mode", "same_as"),
    [("RGBA", "RGB"), ("LA", "L"), ("P", "RGB"), ("1", "L"), ("CMYK", "RGB"), ("L", "L")],
)
def test_kinds_of_images_that_have_a_plain_equivalent_are_it(tmp_path, rng, mode, same_as):
    image = Image.fromarray(rng.integers(0, 256, (14, 14, 3)).astype(np.uint8))
    image = image.quantize(64) if mode == "P" else image.convert(mode)
    image.save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), quality=95)
    (file,) = tmp_path.iterdir()
    with Image.open(file) as stored:
        wanted = np.asarray(stored.convert(same_as))
    wanted = wanted if wanted.ndim == 2 else wanted.transpose(2, 0, 1)
    assert np.array_equal(images([file])[0], wanted)


def test_grey_among_colour_is_colour_and_said(look, tmp_path, rng):
    folders(tmp_path, rng, form=(14, 14, 3))
    saved(tmp_path, rng, ["pool/05.png", "labelled/a/4.png"], mode="L", form=(14, 14, 3))
    said = look("pool", "labelled")
    assert "3 channels" in said and "1 of 12 images are grey, and have three equal" in said
    saved(tmp_path, rng, [f"pool/{i:02d}.png" for i in range(12)])
    assert "in colour and the pool is grey" in look("pool", "labelled")
    saved(tmp_path, rng, [f"labelled/{'ab'[i % 2]}/{i}.png" for i in range(12)], mode="RGB")
    assert "grey, 1 channel" in look("pool", "labelled")  # grey in three equal channels


def animation(file):
    frames = [Image.new("L", (14, 14), shade) for shade in (0, 99)]
    frames[0].save(file, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda f: Image.fromarray(np.full((14, 14), 999, np.uint16)).save(f), "16 bits"),
        (lambda f: Image.new("RGBA", (14, 14), (9, 9, 9, 50)).save(f), "transparent parts"),
        (lambda f: Image.new("LA", (14, 14), (9, 50)).save(f), "transparent parts"),
        (lambda f: animation(f), "is an animation of 2 frames"),
        (lambda f: Image.new("L", (14, 15)).save(f), "14 × 15 pixels .width × height., wanted 14"),
        (lambda f: Image.new("L", (2000, 9)).save(f), "at most 1024 pixels wide and high"),
        (lambda f: f.write_bytes(b"\x89PNG\r\n\x1a\nrubbish"), "damaged or no image"),
        (lambda f: f.write_bytes(b""), "damaged or no image"),
        (lambda f: f.with_suffix(".gif").write_bytes(b"GIF89a"), "is not read, JPEG and PNG are"),
        (lambda f: f.with_suffix(".TIFF").write_bytes(b"II*"), "is not read, JPEG and PNG are"),
    ],
)
def test_images_without_a_plain_equivalent_are_refused_with_what_to_do(
    look, tmp_path, rng, write, says
):
    folders(tmp_path, rng)
    write(tmp_path / "pool/05.png")
    assert re.search(f"05.* {says}", look("pool", "labelled"), re.IGNORECASE)


def test_what_systems_leave_in_folders_is_no_image_and_no_class(look, tmp_path, rng):
    folders(tmp_path, rng)
    (tmp_path / "pool/._00.png").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
    (tmp_path / "pool/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (tmp_path / "labelled/classes.txt").write_text("a b")
    for name in (".thumbnails", "@eaDir", "__MACOSX", ".ipynb_checkpoints"):
        saved(tmp_path, rng, [f"labelled/{name}/1.png", f"pool/{name}/1.png"])
    saved(tmp_path, rng, ["pool/12.PNG", "pool/more/00.JPG", "pool/more/13.Jpeg"])
    said = look("pool", "labelled")
    assert said.startswith("pool: 15 images; labelled: 12, 2 classes")
    files = read_pool(tmp_path / "pool", Columns()).table.file
    assert {"00.png", "12.PNG", "more/00.JPG", "more/13.Jpeg"} <= set(files)


def test_folders_of_classes_are_one_deep(look, tmp_path, rng):
    folders(tmp_path, rng)
    saved(tmp_path, rng, ["labelled/stray.png"])
    assert "stray.png is in no folder of a class" in look("pool", "labelled")
    (tmp_path / "labelled/stray.png").unlink()
    saved(tmp_path, rng, ["labelled/a/2023/1.png"])
    assert "a/2023/1.png lies more than one folder deep" in look("pool", "labelled")
    shutil.rmtree(tmp_path / "labelled/a/2023")
    (tmp_path / "labelled/c").symlink_to(tmp_path / "labelled/a")
    assert "labelled/c is a link to a folder" in look("pool", "labelled")


def test_folders_that_are_called_by_numbers_are_classes(look, tmp_path, rng):
    folders(tmp_path, rng)
    shutil.rmtree(tmp_path / "labelled")
    names = [f"labelled/{number}/{i}.png" for number in (18, 25, 31, 40) for i in range(2)]
    saved(tmp_path, rng, names)
    said = look("pool", "labelled")
    assert "4 classes: '18' 2, '25' 2, '31' 2, '40' 2" in said
    assert "8, values" in look("pool", "labelled", "--task", "values")
    shutil.rmtree(tmp_path / "labelled")
    saved(tmp_path, rng, [f"labelled/{age}_{i}.png" for age in (18, 25, 31, 40) for i in range(2)])
    assert "say which by --task" in look("pool", "labelled")


def test_one_picture_under_two_classes_is_told(look, tmp_path, rng):
    folders(tmp_path, rng)
    shutil.copy(tmp_path / "labelled/a/0.png", tmp_path / "labelled/b/again.png")
    assert re.search("a/0.png and .*b/again.png label one point twice", look("pool", "labelled"))
    shutil.move(tmp_path / "labelled/b/again.png", tmp_path / "labelled/a/again.png")
    assert "1 labelled came again" in look("pool", "labelled")


def test_a_name_that_two_folders_have_is_asked_about(look, tmp_path, rng):
    folders(tmp_path, rng)
    saved(tmp_path, rng, ["00.png"])
    table = pd.DataFrame({"file": ["00.png", "01.png", "02.png", "03.png"], "label": list("abab")})
    table.to_csv(tmp_path / "picks.csv", index=False)
    assert "names '00.png': which of" in look("pool", ["labelled", "picks.csv"])
    shutil.copy(tmp_path / "pool/00.png", tmp_path / "00.png")
    assert "pool: 4 of 12 are labelled" in look("pool", ["labelled", "picks.csv"])


# --- arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ((1, 28, 28), "28 × 28 pixels (height × width), grey"),
        ((28, 28, 1), "28 × 28 pixels (height × width), grey"),
        ((28, 28), "28 × 28 pixels (height × width), grey"),
        ((3, 32, 30), "32 × 30 pixels (height × width), 3 channels"),
        ((32, 30, 3), "32 × 30 pixels (height × width), 3 channels"),
        ((4, 32, 32), "no axis of 1 or 3 channels"),
        ((32, 32, 4), "no axis of 1 or 3 channels"),
        ((3, 32, 3), "which axis is the channels'"),
        ((101, 4), "has points of shape (101, 4): wanted rows of numbers"),
        ((2, 3, 28, 28), "has points of shape (2, 3, 28, 28): wanted"),
        ((), "1 number each"),
        ((5,), "5 numbers each"),
    ],
)
def test_arrays_are_laid_out_as_torch_or_as_keras_has_them(look, tmp_path, rng, form, says):
    np.savez(tmp_path / "p.npz", x=rng.random((30, *form)))
    np.savez(tmp_path / "l.npz", x=rng.random((20, *form)), y=np.arange(20) % 2)
    assert says in look("p.npz", "l.npz")


def test_the_layouts_are_the_same_pixels(tmp_path, rng):
    x = rng.integers(0, 256, (9, 3, 20, 24)).astype(np.uint8)
    np.save(tmp_path / "first.npy", x)
    np.save(tmp_path / "last.npy", x.transpose(0, 2, 3, 1))
    first, last = (read_pool(tmp_path / f"{name}.npy", Columns()).x for name in ("first", "last"))
    assert first.equal(last) and np.array_equal(first, x)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.arange(20) % 3, "3 classes: '0' 7, '1' 7, '2' 6"),
        ((np.arange(20) % 3).astype(np.float64), "3 classes: '0' 7"),
        (np.arange(20) % 2 == 0, "2 classes: 'False' 10, 'True' 10"),
        (np.array(["007", "b "] * 10), "2 classes: '007' 10, 'b ' 10"),
        (np.linspace(0, 1, 20), "20 values from 0 to 1"),
        ((np.arange(20) % 3)[:, None], "3 classes"),
        (np.eye(4)[np.arange(20) % 4], "wanted one label a row, as y.argmax(1) makes them"),
        (np.r_[np.arange(19) % 2, np.nan], "row 19"),
        (np.arange(19), "y of shape (19,)"),
        (np.arange(20).astype("datetime64[D]"), "has in y neither numbers nor text"),
        (np.arange(20).astype(object), "is no .npz of plain numbers"),
    ],
)
def test_labels_of_arrays_of_any_type(look, tmp_path, rng, y, says):
    np.savez(tmp_path / "p.npz", x=rng.random((30, 4)))
    np.savez(tmp_path / "l.npz", x=rng.random((20, 4)), y=y)
    assert says in look("p.npz", "l.npz")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.full((9, 3), np.nan)}, "has in x what is no number, or not a finite one"),
        ({"x": np.full((9, 3), 1e300)}, "too large for single precision"),
        ({"x": np.full((9, 3), "a")}, "has in x what is no number"),
        ({"X": np.zeros((9, 3)), "z": np.zeros(9)}, "has no array called x.*: it has X, z"),
    ],
)
def test_arrays_that_hold_no_points_are_refused(tmp_path, arrays, says):
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(ValueError, match=says):
        read_pool(tmp_path / "p.npz", Columns())


def test_arrays_of_other_names_are_read_by_the_options(look, tmp_path, rng):
    np.savez(tmp_path / "p.npz", feats=rng.random((30, 4)))
    np.savez(tmp_path / "l.npz", feats=rng.random((20, 4)), psi=rng.random(20))
    assert "20, values" in look("p.npz", "l.npz", "--input", "feats", "--label", "psi")
    assert "has no columns: --id" in look("p.npz", "l.npz", "--input", "feats", "--id", "a")


def test_pixels_of_another_scale_are_told(look, tmp_path, rng):
    x = rng.integers(0, 256, (30, 20, 20)).astype(np.uint8)
    np.savez(tmp_path / "p.npz", x=x)
    np.savez(tmp_path / "l.npz", x=x / 255, y=np.arange(30) % 2)
    assert "has pixels up to 1 and the pool up to 255: bring them to one scale" in look(
        "p.npz", "l.npz"
    )


def test_the_picks_of_an_array_name_its_rows(look, tmp_path, rng):
    x = rng.random((30, 4))
    np.savez(tmp_path / "p.npz", x=x)
    np.savez(tmp_path / "l.npz", x=rng.random((20, 4)), y=np.arange(20) / 7)
    picks = pd.DataFrame({"rank": [1, 2], "row": [7, 3], "label": [0.5, 0.7]})
    picks.to_csv(tmp_path / "picks.csv", index=False)
    assert "pool: 2 of 30 are labelled, 28 open" in look("p.npz", ["l.npz", "picks.csv"])
    picks.assign(row=[7, 30]).to_csv(tmp_path / "picks.csv", index=False)
    said = look("p.npz", ["l.npz", "picks.csv"])
    assert "picks.csv line 3 has the row '30', the pool has 0 to 29" in said
    picks.drop(columns="row").to_csv(tmp_path / "picks.csv", index=False)
    assert "or a column 'row' of the pool's rows" in look("p.npz", ["l.npz", "picks.csv"])
