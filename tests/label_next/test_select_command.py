"""From files to picks by one command: any kind of points, two rounds, and what is refused."""

import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from deimos.__main__ import main
from deimos.label_next import record, report
from deimos.label_next.arrays import brightest
from deimos.label_next.files import read_labelled, read_pool
from deimos.label_next.labels import parse_labels
from deimos.label_next.networks import fitting
from deimos.label_next.repeats import already_labelled
from deimos.label_next.tables import Columns
from deimos.models import networks
from deimos.record import executions, queries, store

ROOT = Path(__file__).parents[2]
QUICK = ["--epochs", "2", "--masks", "6"]


@pytest.fixture(scope="module")
def one_record(tmp_path_factory, empty_database):
    """A record for all of these tests: opening one takes seconds."""
    return shutil.copy(empty_database, tmp_path_factory.mktemp("rounds") / "mlflow.db")


@pytest.fixture
def place(tmp_path, one_record, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{one_record}")
    return tmp_path


def rounds_in_the_record():
    return queries.search(kind="round")


def library(rng, n, length=25):
    return ["".join(row) for row in rng.choice(list("ACGT"), (n, length))]


def sequence_files(place, rng, n=40, n_labelled=12):
    texts = library(rng, n + n_labelled)
    table = pd.DataFrame({"id": [f"s{i}" for i in range(n + n_labelled)], "sequence": texts})
    table["site"] = "x<y"  # a column of the pool's own
    table.iloc[:n].to_csv(place / "pool.csv", index=False)
    labelled = table.iloc[n:].assign(label=[text.count("G") / 25 for text in texts[n:]])
    labelled.to_csv(place / "labelled.csv", index=False)
    return table


def select(place, *more, pool="pool.csv", labelled=("labelled.csv",), batch=5, out="picks.csv"):
    names = [str(place / name) for name in labelled]
    given = ["--pool", str(place / pool), "--labelled", *names, "--batch", str(batch)]
    return main(["select", *given, "--out", str(place / out), *QUICK, *more])


def test_a_table_of_sequences_becomes_picks_a_page_and_a_run(place, rng, capsys):
    table, before = sequence_files(place, rng), len(rounds_in_the_record())
    assert select(place) == 0
    picks = pd.read_csv(place / "picks.csv")
    assert list(picks["rank"]) == [1, 2, 3, 4, 5] and picks.share[0] == 1
    assert picks.expected_improvement.is_monotonic_decreasing
    assert picks.label.isna().all() and (picks.site == "x<y").all()
    pool = table.set_index("id").sequence[:40]
    assert list(pool[picks.id]) == list(picks.sequence)  # all of the pool's own row
    page = (place / "picks.html").read_text(encoding="utf-8")
    assert "5 of 40 to label next" in page and "x&lt;y" in page and "x<y" not in page
    assert not re.search(r"(src|href)=.?https?:", page) and "data:image/png;base64," in page
    said = capsys.readouterr().out
    assert "validation rmse" in said and "always saying the mean" in said
    run, *others = rounds_in_the_record()
    assert len(others) == before
    assert run.info.status == "FINISHED" and run.data.params["network"] == "the splicing net"
    assert {"checksum_pool", "checksum_labelled", "commit"} <= run.data.tags.keys()
    gains = queries.history(run.info.run_id, "pick/expected_improvement")
    assert list(gains.values()) == pytest.approx(list(picks.expected_improvement))
    files = {file.path for file in store.client().list_artifacts(run.info.run_id)}
    assert files == {"picks.csv", "picks.html"}


def test_the_picks_with_their_labels_filled_in_are_the_next_round(place, rng):
    sequence_files(place, rng)
    assert select(place) == 0
    first = pd.read_csv(place / "picks.csv")
    first.assign(label=first.sequence.str.count("G") / 25).to_csv(place / "one.csv", index=False)
    assert select(place, labelled=("labelled.csv", "one.csv"), out="second.csv", batch=35) == 0
    second = pd.read_csv(place / "second.csv")
    assert len(second) == 35 and not set(first.id) & set(second.id)


def test_the_precision_is_asked_for_by_name_and_recorded_and_the_environment_has_no_say(
    place, rng, monkeypatch
):
    sequence_files(place, rng)
    gains = {}
    for precision in ("float32", "bfloat16"):
        other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
        monkeypatch.setenv("DEIMOS_PRECISION", other)
        asked = ["--precision", precision] if precision == "bfloat16" else []
        assert select(place, *asked) == 0
        run = rounds_in_the_record()[0]
        assert run.data.params["precision"] == precision
        assert precision in (place / "picks.html").read_text(encoding="utf-8")
        gains[precision] = pd.read_csv(place / "picks.csv").expected_improvement.tolist()
    assert gains["float32"] != gains["bfloat16"]


@pytest.mark.parametrize("how", ["tsv", "gz", "named"])
def test_tables_parted_by_tabs_zipped_or_with_names_of_their_own(place, rng, how):
    sequence_files(place, rng)
    columns = Columns("read", "psi", "which") if how == "named" else Columns()
    plain, other = [], []
    for name in ("pool", "labelled"):
        table, file = pd.read_csv(place / f"{name}.csv"), place / f"{name}.{how}"
        if how == "tsv":
            table.to_csv(file, sep="\t", index=False)
        elif how == "gz":
            file.write_bytes(gzip.compress(table.to_csv(index=False).encode()))
        else:
            own = {"sequence": "read", "label": "psi", "id": "which"}
            table.rename(columns=own).to_csv(file, index=False)
        plain.append(place / f"{name}.csv")
        other.append(file)
    found = [
        read_labelled([files[1]], names, read_pool(files[0], names), files[0])
        for files, names in ((plain, Columns()), (other, columns))
    ]
    assert found[0][0].x.equal(found[1][0].x) and found[0][1] == found[1][1]


@pytest.mark.parametrize("form", [(14, 14), (14, 14, 3)])
def test_images_in_a_folder_a_class_or_by_a_table(place, rng, form):
    for i in range(12):
        for name in (f"pool/{i:02d}.png", f"labelled/{'ab'[i % 2]}/{i}.png"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, form).astype(np.uint8)
            Image.fromarray(pixels).save(place / name)
    assert select(place, pool="pool", labelled=("labelled",)) == 0
    picks = pd.read_csv(place / "picks.csv")
    assert set(picks.model_says) <= {"a", "b"} and set(picks.file) <= {
        f"{i:02d}.png" for i in range(12)
    }
    picks.assign(label="b").to_csv(place / "one.csv", index=False)
    assert select(place, pool="pool", labelled=("labelled", "one.csv"), out="two.csv") == 0
    assert not set(pd.read_csv(place / "two.csv").file) & set(picks.file)


def test_the_same_images_get_the_same_picks_however_their_pixels_are_stored(place, rng, capsys):
    images = rng.integers(0, 256, (40, 14, 14)).astype(np.uint8)
    images[0, 0, 0] = images[12, 0, 0] = 255
    found = []
    for x in (images, images.astype(np.float32), (images / np.float32(255)).astype(np.float32)):
        np.savez(place / "pool.npz", x=x[12:])
        np.savez(place / "labelled.npz", x=x[:12], y=np.arange(12) % 2)
        assert select(place, pool="pool.npz", labelled=("labelled.npz",)) == 0
        found.append(pd.read_csv(place / "picks.csv"))
        assert "the MNIST net, pixels of at most" in capsys.readouterr().out
    assert found[0].equals(found[1]) and found[0].equals(found[2])


def test_rows_of_numbers_with_a_population_that_matters(place, rng):
    def written(name, n, **more):
        np.savez(place / name, x=rng.standard_normal((n, 4)), **more)

    written("pool.npz", 30)
    written("labelled.npz", 15, y=np.arange(15) % 3)
    written("matters.npz", 9)
    out = ["--matters", str(place / "matters.npz"), "--sample", "20"]
    assert select(place, *out, pool="pool.npz", labelled=("labelled.npz",)) == 0
    picks = pd.read_csv(place / "picks.csv")
    assert picks.row.between(0, 29).all() and picks.model_says.isin([0, 1, 2]).all()
    table = pd.DataFrame(rng.standard_normal((30, 3)), columns=["a", "b", "c"])
    table.to_csv(place / "pool.csv", index=False)
    table[:9].assign(y=table.a * 2 + 100).to_csv(place / "labelled.csv", index=False)
    assert select(place, out="other.csv") == 0
    picks = pd.read_csv(place / "other.csv")
    assert picks.model_says.between(90, 110).all()  # in the labels' own units
    assert not set(picks.a.round(9)) & set(table.a[:9].round(9))  # labelled, by their inputs


def test_an_example_is_written_and_can_be_picked_from(place, capsys):
    assert main(["example", str(place / "mine")]) == 0
    pool, labelled = (pd.read_csv(place / f"mine/{name}.csv") for name in ("pool", "labelled"))
    assert len(pool) == 2_000 and len(labelled) == 200 and labelled.label.between(0, 1).all()
    command = re.search(r"python -m deimos (select .*)", capsys.readouterr().out)[1].split()
    assert main([*command, "--sample", "150", *QUICK]) == 0
    assert main(["example", str(place / "mine")]) == 2
    assert "is there and not empty: name a new folder" in capsys.readouterr().err


BASE = "AC" * 15


@pytest.mark.parametrize(
    ("pool", "labelled", "more", "says"),
    [
        ("", "", [], "pool.csv is empty, not a table"),
        ("<html>\n", "", [], "pool.csv is a web page, not a table"),
        ("id,sequence\n", "", [], "pool.csv has a header and nothing below it"),
        ("id,name\n1,two\n", "", [], "neither a column of sequences .A, C, G, T. nor one of num"),
        (
            f"sequence\n{BASE}\n{BASE}A\n",
            "",
            [],
            "pool.csv line 3 has a sequence of 31 nt, the fir",
        ),
        (f"sequence\n{BASE}\n{BASE[1:]}N\n", "", [], "pool.csv line 3: a sequence is written in"),
        (None, "sequence\nACGT\n", [], "has no column called label or y or target, but sequence"),
        (None, "seq,label\nACGT,1\n", [], "has no column 'sequence', which the pool has"),
        (None, f"sequence,label\n{BASE[:25]},1\n{BASE[:25]},\n", [], "line 3 has no label .1 of 2"),
        (None, f"sequence,label\n{BASE},1\n", [], "points of shape .30,., the pool of shape .25,."),
        (None, None, ["--label", "psi"], "labelled.csv has no column 'psi': it has"),
        (None, None, ["--sequence", "read"], "pool.csv has no column 'read': it has"),
        (None, None, ["--masks", "1"], "--masks is 1, wanted 2 or more"),
        (None, None, ["--sample", "0"], "--sample is 0, wanted 1 or more"),
        (None, None, ["--batch", "99"], "of the pool's 40 points 40 are not labelled yet"),
        (None, None, ["--out", "picks.txt"], "wanted a name that ends with .csv"),
        (None, None, ["--matters", "none.csv"], "none.csv is not there"),
        (None, None, ["--noise", "-1"], "noise"),
    ],
)
def test_what_cannot_be_picked_from_is_one_sentence_and_nothing_is_written(
    place, rng, capsys, pool, labelled, more, says
):
    sequence_files(place, rng)
    before = len(rounds_in_the_record())
    for name, text in (("pool", pool), ("labelled", labelled)):
        if text is not None:
            (place / f"{name}.csv").write_text(text)
    assert select(place, *more) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(says, said), said
    assert not list(place.glob("picks*")) and len(rounds_in_the_record()) == before


def test_what_was_there_stays_until_all_of_the_new_is_whole(place, rng, monkeypatch, capsys):
    sequence_files(place, rng)
    (place / "picks.csv").write_text("of the last round")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "report_page", full)
    assert select(place) == 2
    assert "No space left" in capsys.readouterr().err
    assert (place / "picks.csv").read_text() == "of the last round"
    assert {f.name for f in place.iterdir()} == {"pool.csv", "labelled.csv", "picks.csv"}


def test_an_input_is_never_replaced(place, rng, capsys):
    sequence_files(place, rng)
    before = (place / "labelled.csv").read_bytes()
    assert select(place, out="labelled.csv") == 2
    assert "would replace an input" in capsys.readouterr().err
    assert (place / "labelled.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("said", "task", "classes"),
    [
        (["0", "1", "1"], None, ("0", "1")),
        (["2.0", "10", "2"], None, ("2", "10")),
        (["0.5", "1", "2"], None, ()),
        (["7", "1"], "values", ()),
        (list(map(str, range(30))), None, ()),
        (["cat", "dog", "cat"], None, ("cat", "dog")),
    ],
)
def test_labels_are_classes_or_values(said, task, classes):
    found = parse_labels(said, said, task)
    assert found.classes == classes
    assert (
        [classes[k] for k in found.y] == [one.removesuffix(".0") for one in said]
        if classes
        else found.y.tolist() == list(map(float, said))
    )


@pytest.mark.parametrize(
    ("said", "task", "says"),
    [
        (["0.1", "0.2", "0.3", "n/a"], None, "'n/a' in line 4 is no number"),
        (["0.1", "x"], "values", "line 2 has the label 'x', wanted a number"),
        (["a", "a"], None, "all 2 labels are 'a': wanted two classes"),
        (["0.5", "0.5"], None, "all 2 labels are 0.5: there is nothing to learn"),
    ],
)
def test_labels_that_teach_nothing_are_refused(said, task, says):
    with pytest.raises(ValueError, match=says):
        parse_labels(said, [f"line {i + 1}" for i in range(len(said))], task)


@pytest.mark.parametrize(
    ("kind", "shape", "c", "twin"),
    [
        ("sequences", (101,), 1, networks.splicing),
        ("images", (28, 28), 2, networks.mnist_7_vs_9),
        ("images", (28, 28), 10, networks.mnist_0_to_9),
        ("images", (3, 200, 200), 1, networks.face_age),
    ],
)
def test_the_net_is_the_papers_where_the_points_are(kind, shape, c, twin, rng):
    ours = fitting(kind, shape, c).build(torch.Generator().manual_seed(0))
    theirs = twin(torch.Generator().manual_seed(0))
    theirs.load_state_dict(ours.state_dict())
    assert ours.p == theirs.p and ours.dropout_widths == theirs.dropout_widths
    x = torch.from_numpy(rng.integers(0, 4, (2, *shape)).astype(np.uint8))
    torch.testing.assert_close(ours.features(x), theirs.features(x))


def test_the_mnist_net_is_given_images_from_0_to_1_where_the_largest_pixel_is_known(rng):
    net = fitting("images", (28, 28), 10, 255.0).build(torch.Generator().manual_seed(0))
    theirs = networks.mnist_0_to_9(torch.Generator().manual_seed(0))
    theirs.load_state_dict(net.state_dict())
    x = torch.from_numpy(rng.integers(0, 256, (2, 28, 28)).astype(np.uint8))
    torch.testing.assert_close(net.features(x), theirs.features(x.float() / 255))


@pytest.mark.parametrize(
    ("parts", "most"),
    [
        ([np.uint8([[3, 9]]), np.uint8([[1, 2]])], 255.0),  # bytes, whatever is in them
        ([np.float32([[3, 9]]), np.uint8([[1, 200]])], 255.0),
        ([np.float32([[0.2, 0.7]]), np.float32([[0.1, 0.9]])], 1.0),
        ([np.float32([[-4.0, 2.0]]), np.float32([[0.1, 0.9]])], 4.0),
    ],
)
def test_the_brightest_pixel_is_that_of_pool_and_labelled(parts, most):
    assert brightest([torch.from_numpy(part) for part in parts]) == most


def test_points_of_the_pool_are_known_by_their_id_or_by_what_they_are(place, rng):
    table = sequence_files(place, rng)
    columns = Columns()
    pool = read_pool(place / "pool.csv", columns)
    other = pd.DataFrame({"id": ["s3", "new"], "sequence": [BASE[:25], table.sequence[7]]})
    other.assign(label=[1, 2]).to_csv(place / "labelled.csv", index=False)
    labelled, _, _ = read_labelled([place / "labelled.csv"], columns, pool, place / "pool.csv")
    assert already_labelled(pool, labelled).nonzero().flatten().tolist() == [3, 7]


def test_the_page_begins_with_what_was_read_as_what(place, rng):
    sequence_files(place, rng)
    assert select(place) == 0
    page = (place / "picks.html").read_text(encoding="utf-8")
    above = page.partition("How much each pick adds")[0]
    for words in (
        "What was read as what",
        "column &#x27;sequence&#x27;, 25 nt",
        "no input",
        "site",
    ):
        assert words in above


def test_ids_and_classes_come_out_as_they_went_in_and_go_in_again(place, rng):
    ids = [
        "007",
        "7",
        "1e5",
        "TRUE",
        "NA",
        " s 1 ",
        'a "b", c',
        "naïve",
        "two\nlines",
        "2024-01-05",
    ]
    table = pd.DataFrame({"id": [*ids, *map(str, range(100, 130))], "sequence": library(rng, 40)})
    table[:20].to_csv(place / "pool.csv", index=False)
    names = ["0a", "TRUE", "ü "] * 7
    table[20:].assign(label=names[:20]).to_csv(place / "labelled.csv", index=False)
    assert select(place, batch=20) == 0
    picks = pd.read_csv(place / "picks.csv", dtype=str, na_filter=False)
    assert set(picks.id) == set(table.id[:20]) and set(picks.model_says) <= set(names)
    picks[:18].assign(label="TRUE").to_csv(place / "one.csv", index=False)
    assert select(place, labelled=("labelled.csv", "one.csv"), batch=2, out="two.csv") == 0
    second = pd.read_csv(place / "two.csv", dtype=str, na_filter=False)
    assert set(second.id) == set(picks.id[18:])


def test_the_label_column_of_the_picks_is_called_as_the_labelled_files_call_it(place, rng):
    sequence_files(place, rng)
    labelled = pd.read_csv(place / "labelled.csv").rename(columns={"label": "Target"})
    labelled.to_csv(place / "labelled.csv", index=False)
    assert select(place) == 0
    assert "Target" in pd.read_csv(place / "picks.csv")


def test_a_deleted_experiment_is_told_before_any_work_with_the_remedy(
    tmp_path, rng, capsys, database, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    sequence_files(tmp_path, rng)
    assert select(tmp_path) == 0
    client = store.client()
    place = client.get_experiment_by_name(record.COMMAND_EXPERIMENT).experiment_id
    client.delete_experiment(place)
    capsys.readouterr()
    assert select(tmp_path, out="second.csv") == 2
    out, err = capsys.readouterr()
    assert out == "" and not list(tmp_path.glob("second*"))
    assert f"the experiment {record.COMMAND_EXPERIMENT} was deleted" in err and err.count("\n") == 1
    assert f"mlflow experiments restore -x {place}`" in err
    with pytest.raises(ValueError, match="was deleted"):
        executions.open_execution(record.COMMAND_EXPERIMENT, "smoke")
    assert select(tmp_path, "--dry-run") == 0  # needs no record
    client.restore_experiment(place)
    assert select(tmp_path, out="second.csv") == 0


def test_a_record_that_goes_away_during_the_fit_does_not_take_the_picks_with_it(
    place, rng, capsys, monkeypatch
):
    sequence_files(place, rng)

    def gone(*_):
        raise MlflowException("The experiment 1 must be in the 'active' state.")

    monkeypatch.setattr(record, "log_round", gone)
    assert select(place) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert "picks.csv and the page in" in err and "the record did not take them" in err
    assert len(pd.read_csv(place / "picks.csv")) == 5


def test_what_a_round_needs_is_asked_for(place, rng, capsys):
    sequence_files(place, rng)
    files = ["--pool", str(place / "pool.csv"), "--labelled", str(place / "labelled.csv")]
    assert main(["select", *files]) == 2
    assert "--batch says how many to pick, and --out where" in capsys.readouterr().err


@pytest.mark.soak
def test_the_commands_of_the_documentation_run(place, capsys, monkeypatch):
    text = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = [one.split() for one in re.findall(r"-m deimos (.*)", commands)]
    assert [line[0] for line in lines] == ["example", "select", "select", "select"]
    monkeypatch.chdir(place)
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    quick = ["--sample", "120", *QUICK]
    assert main(lines[0]) == 0 and capsys.readouterr()
    assert main(lines[1]) == 0 and capsys.readouterr().out == shown
    assert main([*lines[2], *quick]) == 0
    picks = pd.read_csv("data/mine/picks.csv")
    answers = pd.read_csv("data/mine/answers.csv").set_index("id").label
    picks.assign(label=picks.id.map(answers)).to_csv("data/mine/picks.csv", index=False)
    assert main([*lines[3], *quick]) == 0
    options = set(re.findall(r"\| `(--\w+)", text))
    assert {"--input", "--label", "--id", "--task"} == options
