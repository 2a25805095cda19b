"""The right digits under the right ids, and one clear sentence where they are not."""

import gzip
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from torchvision import datasets

from deimos.tasks import faces, files, mnist, splicing
from deimos.tasks.task import checksum


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No MNIST on disk and no network: a closed machine."""
    monkeypatch.setenv("DEIMOS_DATA", str(tmp_path))
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    return tmp_path


def idx(values: np.ndarray) -> bytes:
    """An idx file of unsigned bytes."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    return head + values.astype(np.uint8).tobytes()


def test_without_files_or_network_real_digits_stand_in_and_say_so(nowhere):
    task = mnist.load_7_vs_9("quick")
    assert task.stand_in and task.source.startswith("stand-in")
    assert len(task.train_ids) == 600 and len(task.test_x) == 400
    assert set(task.y[task.train_ids].tolist()) == {0, 1} == set(task.test_y.tolist())


def test_at_paper_scale_missing_digits_are_an_error_that_says_what_to_put_where(nowhere):
    with pytest.raises(FileNotFoundError, match=f"put the four files .* in {nowhere}"):
        mnist.load_7_vs_9("paper")


@pytest.fixture
def five_digits(nowhere, monkeypatch):
    """Four files in the data folder that are taken for MNIST's."""
    raw = nowhere / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(5 * 28 * 28).reshape(5, 28, 28) % 251
    for name in mnist.MNIST_MD5:
        content = idx(np.array([7, 9, 1, 9, 7])) if "labels" in name else idx(images)
        (raw / name).write_bytes(content)
        monkeypatch.setitem(mnist.MNIST_MD5, name, files.md5(content))
    return raw


@pytest.mark.parametrize("name", mnist.MNIST_MD5)
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: whole[:9] + bytes([whole[9] ^ 1]) + whole[10:],
        lambda whole: b"<!DOCTYPE html>",
        lambda whole: gzip.compress(b"another"),
        lambda whole: gzip.compress(whole)[:-9],
    ],
    ids=["empty", "cut", "longer", "one bit", "web page", "zipped other", "zipped and cut"],
)
@pytest.mark.parametrize("zipped", ["", ".gz"])
def test_a_damaged_file_is_named_at_any_scale(five_digits, name, damage, zipped):
    file = (five_digits / name).rename(five_digits / f"{name}{zipped}")
    file.write_bytes(damage(file.read_bytes()))
    for scale in ("paper", "smoke"):
        with pytest.raises(ValueError, match=f"{file.name} is damaged .*: delete it and run again"):
            mnist.load_7_vs_9(scale)


def test_a_folder_in_the_place_of_a_file_is_named(five_digits):
    file = five_digits / "t10k-labels-idx1-ubyte"
    file.unlink()
    file.mkdir()
    with pytest.raises(OSError, match="t10k-labels-idx1-ubyte cannot be read .Is a directory"):
        mnist.load_7_vs_9("quick")


def test_a_file_may_be_zipped_as_it_is_downloaded(five_digits):
    plain = mnist.load_0_to_9("paper")
    for file in list(five_digits.iterdir()):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    zipped = mnist.load_0_to_9("paper")
    assert zipped.checksum == plain.checksum and torch.equal(zipped.x, plain.x)


@contextmanager
def network(handler):
    """A web server of this machine, as the place that everything is downloaded from."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_digits_come_from_the_first_mirror_that_has_them(five_digits, tmp_path, monkeypatch):
    plain, served = mnist.load_0_to_9("paper").checksum, tmp_path / "served"
    served.mkdir()
    resources = []
    for file in list(five_digits.iterdir()):
        content = gzip.compress(file.read_bytes())
        (served / f"{file.name}.gz").write_bytes(content)
        resources.append((f"{file.name}.gz", files.md5(content)))
        file.unlink()
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    with network(partial(SimpleHTTPRequestHandler, directory=served)) as place:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{place}not-here/", place])
        monkeypatch.setenv("DEIMOS_OFFLINE", "1")
        assert mnist.load_0_to_9("quick").stand_in
        monkeypatch.delenv("DEIMOS_OFFLINE")
        assert mnist.load_0_to_9("quick").checksum == plain
    assert sorted(file.name for file in five_digits.iterdir()) == sorted(
        f"{name}.gz" for name in mnist.MNIST_MD5
    )


class Portal(BaseHTTPRequestHandler):
    """A network that answers everything with a page to log in on."""

    def do_GET(self):
        page = b"<!DOCTYPE html><title>Log in</title>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


@pytest.mark.parametrize(
    ("load", "file"),
    [
        (mnist.load_7_vs_9, "raw/train-images-idx3-ubyte.gz"),
        (splicing.load_splicing, "splicing/5SS_compressed.txt"),
        (faces.load_face_age, "utkface/UTKFace.tar.gz"),
    ],
)
def test_a_web_page_in_the_place_of_the_data_is_refused_and_not_kept(
    nowhere, monkeypatch, load, file
):
    monkeypatch.delenv("DEIMOS_OFFLINE", raising=False)
    with network(Portal) as place:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [place])
        monkeypatch.setattr(splicing, "AUTHORS_URL", f"{place}5SS_compressed.txt")
        monkeypatch.setattr(faces, "UTKFACE_URL", f"{place}UTKFace.tar.gz")
        name = file.rpartition("/")[2]
        told = f"{name} is .*; it is not kept: try again, or put the right file at .*{file}"
        with pytest.raises(ValueError, match=told):
            load("quick")
    assert [path for path in nowhere.rglob("*") if path.is_file()] == []


def test_one_missing_file_of_the_four_is_not_made_up(five_digits):
    (five_digits / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="put the four files"):
        mnist.load_7_vs_9("paper")


class Trap:
    """Unpickling one leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


def test_what_an_old_torchvision_left_beside_the_files_is_not_loaded(five_digits, tmp_path):
    processed, trace = five_digits.parent / "processed", tmp_path / "trace"
    processed.mkdir()
    before = mnist.load_0_to_9("paper").checksum
    other = (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.long))
    for content in (Trap(trace), other):
        for name in ("training.pt", "test.pt"):
            torch.save(content, processed / name)
        assert mnist.load_0_to_9("paper").checksum == before
    assert not trace.exists()


def test_files_in_the_data_folder_are_used_before_anything_else(five_digits):
    task = mnist.load_7_vs_9("paper")
    assert task.source == "MNIST" and not task.stand_in
    assert task.x.flatten().tolist() == [i % 251 for i in range(5 * 28 * 28)]
    assert task.train_ids.tolist() == [0, 1, 3, 4]  # ids are rows of the whole file
    assert task.y[task.train_ids].tolist() == [1, 0, 0, 1]  # a seven is class 1


def test_the_initial_set_represents_every_class_equally_and_repeats(nowhere):
    task = mnist.load_0_to_9("quick")
    ids = task.draw_initial_set(30, np.random.default_rng(0))
    assert len(set(ids)) == 30
    assert torch.bincount(task.y[list(ids)]).tolist() == [3] * 10
    assert ids == task.draw_initial_set(30, np.random.default_rng(0))


def test_an_initial_set_that_cannot_be_is_refused(nowhere):
    task = mnist.load_0_to_9("quick")
    task.y[task.train_ids[task.y[task.train_ids] == 4][0]] = 5  # a four fewer, a five more
    for n, complaint in (
        (25, "25 points cannot represent 10 classes equally"),
        (0, "0 points cannot be drawn from the 3000 of mnist-0-to-9"),
        (3010, "3010 points cannot be drawn from the 3000 of mnist-0-to-9"),
        (3000, "3000 points need 300 a class; mnist-0-to-9 has one with 299"),
    ):
        with pytest.raises(ValueError, match=complaint):
            task.draw_initial_set(n, np.random.default_rng(0))


def test_the_checksum_follows_the_content(nowhere):
    first, again, other = mnist.load_7_vs_9("quick"), mnist.load_7_vs_9("smoke"), torch.zeros(3)
    assert first.checksum == again.checksum
    assert first.checksum != checksum([other])


def test_scores_are_those_of_the_mean_prediction(nowhere):
    task = mnist.load_7_vs_9("quick")
    answers = torch.stack([1 - task.test_y, task.test_y], dim=1).float()
    assert task.scores(answers) == {"accuracy": 1.0}
    for wrong in (float("nan"), float("inf")):
        broken = answers.clone()
        broken[7, 0] = wrong
        with pytest.raises(ValueError, match="mnist-7-vs-9: .*answers are not finite"):
            task.scores(broken)
    answers[:100] = 1 - answers[:100]
    assert task.scores(answers) == {"accuracy": 0.75}
