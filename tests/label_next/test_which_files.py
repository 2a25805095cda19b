"""Each row of the page's table on files is so; none is without its test."""

import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from own_data_page import quoted, rows
from PIL import Image, ImageOps

from deimos.label_next.files import images

FILES = rows("files")


class Folder:
    """Files in a folder, and what `--dry-run` says of them."""

    def __init__(self, look, place, rng):
        self.look, self.place, self.rng = look, place, rng

    def numbers(self, **columns):
        """40 rows of three numbers, and columns before them."""
        table = pd.DataFrame(self.rng.standard_normal((40, 3)).round(4), columns=list("abc"))
        return pd.concat([pd.DataFrame(columns), table], axis=1)

    def sequences(self, n=40, length=25):
        return ["".join(row) for row in self.rng.choice(list("ACGT"), (n, length))]

    def tables(self, table, *options, index=False, **labels):
        """25 rows as a pool, the other 15 with labels: fractions, unless others are given."""
        labels = labels or {"label": self.rng.random(15).round(3)}
        table[:25].to_csv(self.place / "pool.csv", index=index)
        table[25:].assign(**labels).to_csv(self.place / "labelled.csv", index=index)
        return self.look("pool.csv", "labelled.csv", *options)

    def labelled(self, labels, *options):
        return self.tables(self.numbers(), *options, label=(list(labels) * 15)[:15])

    def written(self, content, name="pool.csv"):
        """The same tables, with the pool's file replaced."""
        self.tables(self.numbers())
        (self.place / name).write_bytes(content)
        return self.look(name, "labelled.csv")

    def image(self, name, form=(14, 14), mode=None):
        file = self.place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(self.rng.integers(0, 256, form).astype(np.uint8))
        (picture.convert(mode) if mode else picture).save(file)
        return file

    def images(self, form=(14, 14), mode=None):
        for i in range(6):
            self.image(f"pool/{i}.png", form, mode)
            self.image(f"labelled/{'ab'[i % 2]}/{i}.png", form, mode)

    def arrays(self, form, y=None, scale=1.0):
        x = self.rng.random((20, *form))
        np.savez(self.place / "pool.npz", x=x)
        np.savez(
            self.place / "labelled.npz", x=x[::-1] * scale, y=np.arange(20) % 2 if y is None else y
        )
        return self.look("pool.npz", "labelled.npz")


PLAIN = "a,b,c\n" + "1.5,2,3\n2.5,2,1\n" * 9


def plain(folder):
    for content in (
        PLAIN.encode(), PLAIN.replace(",", "\t").encode(), PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "|").encode(), PLAIN.encode("utf-16"), gzip.compress(PLAIN.encode()),
    ):  # fmt: skip
        said = folder.written(content)
        assert said.startswith("pool: 18 vectors"), said
    return said


def ends(folder):
    quoted_cells = "\n".join(",".join(f'"{x}"' for x in row.split(",")) for row in PLAIN.split())
    for text in (PLAIN.replace("\n", "\n\n"), PLAIN.replace("\n", "\r\n"), quoted_cells):
        said = folder.written(text.encode())
        assert said.startswith("pool: 18 vectors"), said
    return said


def packed(folder):
    zipped = [io.BytesIO(), io.BytesIO()]
    for file, name in zip(zipped, ("xl/workbook.xml", "pool.csv"), strict=True):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, "x")
    contents = (*(file.getvalue() for file in zipped), b"PAR1" + bytes(9))
    said = [folder.written(content) for content in contents]
    sentences = ("the sheet as CSV", "unpack it", "write it out as CSV")
    assert all(words in one for words, one in zip(sentences, said, strict=True))
    return said[2]


def zeros(folder):
    table = pd.DataFrame({"id": [f"{i:03d}" for i in range(40)], "sequence": folder.sequences()})
    table.loc[39, "id"] = "7"
    said = folder.tables(table)
    assert "0 of 25 are labelled" in said and "id: column 'id'" in said
    return said


def barcode(folder):
    table = {"barcode": folder.sequences(length=20), "oligo": folder.sequences()}
    said = folder.tables(pd.DataFrame(table))
    assert "input: column 'oligo', 25 nt" in said and "id: column 'barcode'" in said
    return said


def twice(folder, other):
    folder.tables(folder.numbers())
    table = pd.read_csv(folder.place / "labelled.csv")
    table.assign(label=table.label + other).to_csv(folder.place / "again.csv", index=False)
    return folder.look("pool.csv", ["labelled.csv", "again.csv"])


def classes(labels, said):
    def attempt(folder):
        found = folder.labelled(labels)
        assert said in found, found
        return found

    return attempt


def each_of(*attempts):
    """All of them, taken alike or refused alike."""

    def attempt(folder):
        said = [one(folder) for one in attempts]
        assert len({one.startswith("pool: ") for one in said}) == 1, said
        return "\n".join(said)

    return attempt


def turned(folder):
    folder.images()
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(folder.place / "pool/0.png") as opened:
        picture = opened.copy()
    (folder.place / "pool/0.png").unlink()
    picture.save(folder.place / "pool/0.jpg", exif=exif, quality=95)
    with Image.open(folder.place / "pool/0.jpg") as stored:
        shown = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(images([folder.place / "pool/0.jpg"])[0], shown)
    return folder.look("pool", "labelled")


def kinds(folder):
    for mode, says in (("RGBA", "3 channels"), ("P", "3 channels"), ("1", "grey, 1 channel")):
        folder.images((14, 14, 3), mode)
        said = folder.look("pool", "labelled")
        assert says in said, said
    folder.images((14, 14, 3))
    (folder.place / "pool/0.png").unlink()
    folder.image("pool/0.jpg", (14, 14, 3), "CMYK")
    return folder.look("pool", "labelled")


def with_images(change):
    def attempt(folder):
        folder.images((14, 14, 3))
        change(folder)
        return folder.look("pool", "labelled")

    return attempt


def hidden(folder):
    folder.images()
    (folder.place / "pool/._0.png").write_bytes(b"Mac OS X")
    (folder.place / "pool/Thumbs.db").write_bytes(b"x")
    folder.image("labelled/@eaDir/1.png")
    folder.image("pool/.ipynb_checkpoints/1.png")
    said = folder.look("pool", "labelled")
    assert said.startswith("pool: 6 images; labelled: 6, 2 classes"), said
    return said


def unlike_images(folder):
    said = []
    for picture, name in (
        (Image.fromarray(np.full((14, 14), 999, np.uint16)), "0.png"),
        (Image.new("RGBA", (14, 14), (9, 9, 9, 50)), "0.png"),
        (Image.new("L", (14, 14)), "0.gif"),
    ):
        folder.images()
        picture.save(folder.place / "pool" / name)
        said.append(folder.look("pool", "labelled"))
        assert "convert" in said[-1], said[-1]
    return said[-1]


ATTEMPTS = {
    "commas, tabs, semicolons or bars; UTF-8, or UTF-16 with its mark; `.gz`": plain,
    "empty rows, any line ends, quoted fields": ends,
    "a workbook, a zip, Parquet": packed,
    "a table without a header": lambda f: f.written(PLAIN.partition("\n")[2].encode()),
    "rows with more or fewer fields": lambda f: f.written((PLAIN + "1,2\n").encode()),
    "two columns of one name": lambda f: f.written(PLAIN.replace("b", "a").encode()),
    "row numbers that pandas or R wrote": lambda f: f.tables(f.numbers(), index=True),
    "a column that may number the rows": lambda f: f.tables(f.numbers(sample_id=range(40))),
    "a column `y` beside a label of another name": lambda f: f.tables(
        f.numbers(y=np.arange(40) % 7), label=f.rng.random(15)
    ),
    "two columns that may be the label": lambda f: f.tables(
        f.numbers(), label=f.rng.random(15), target=f.rng.random(15)
    ),
    "a barcode beside the sequence": barcode,
    "two columns that may be the sequence": each_of(
        lambda f: f.tables(pd.DataFrame({"oligo": f.sequences(), "spacer": f.sequences()})),
        lambda f: f.tables(pd.DataFrame({"sequence": f.sequences(), "seq": f.sequences()})),
    ),
    "one column as input and as label": lambda f: f.tables(
        f.numbers(), "--input", "a", "b", "--label", "b"
    ),
    "decimal commas": lambda f: f.written(PLAIN.replace(",", ";").replace(".", ",").encode()),
    "ids with zeros before them": zeros,
    "an id that rows share": lambda f: f.tables(f.numbers(name=["BRCA1", "TP53"] * 20)),
    "`--id` of a column that is not unique": lambda f: f.tables(
        f.numbers(name=["BRCA1", "TP53"] * 20), "--id", "name"
    ),
    "one point with one label twice": lambda f: twice(f, 0),
    "one point with two labels": lambda f: twice(f, 1),
    "class numbers of seven digits": classes(
        ["1000001", "1000002", "2000001"], "3 classes: '1000001' 5, '1000002' 5, '2000001' 5"
    ),
    "`2` and `2.0`": classes(["1", "2", "2.0"], "2 classes: '1' 5, '2' 10"),
    "`NA`, `nan` or nothing as a label": each_of(
        classes(["NA", "cat", "dog"], "says that there is no label"),
        classes(["0.5", "0.7", "nan"], "is no number"),
        classes(["cat", "", "dog"], "has no label"),
    ),
    "`cat` beside `Cat`": lambda f: f.labelled(["cat", "Cat", "dog"]),
    "whole numbers that may be classes or values": lambda f: f.labelled(map(str, range(18, 33))),
    "JPEG that EXIF turns": turned,
    "opaque RGBA, palette, 1 bit, CMYK": kinds,
    "grey images among colour": with_images(lambda f: f.image("pool/5.png")),
    "hidden files, and what systems leave in folders": hidden,
    "16 bits a channel, transparent parts, GIF": unlike_images,
    "images of several sizes": with_images(lambda f: f.image("pool/5.png", (14, 15, 3))),
    "images beside folders of classes": with_images(lambda f: f.image("labelled/stray.png")),
    "arrays (n, h, w), (n, c, h, w) or (n, h, w, c), of 1 or 3 channels": each_of(
        *(lambda f, form=form: f.arrays(form)
          for form in ((20, 20), (1, 20, 20), (20, 20, 3), (3, 20, 20)))
    ),
    "arrays of another layout": lambda f: f.arrays((4, 20, 20)),
    "pixels of 0 to 1 beside 0 to 255": lambda f: f.arrays((20, 20), scale=255.0),
    "rows with a single 1 as labels": lambda f: f.arrays((5,), y=np.eye(2)[np.arange(20) % 2]),
}  # fmt: skip


@pytest.mark.parametrize("row", FILES)
def test_a_row_on_files_holds(row, look, tmp_path, rng):
    said, outcome = ATTEMPTS[row](Folder(look, tmp_path, rng)), FILES[row]
    assert said.startswith("pool: ") == outcome.startswith("taken"), said
    assert not quoted(outcome) or any(words in said for words in quoted(outcome)), said


def test_no_row_on_files_is_without_its_test_nor_a_test_without_its_row():
    assert set(FILES) == set(ATTEMPTS)
