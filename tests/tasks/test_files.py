"""A file is whole and right, or it is not there: downloads from a server that misbehaves."""

import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from disks import files_of_at_most, small_disk

from deimos.tasks import files

WHOLE = b"whole" * 100_000  # longer than the pieces in which it is read and written


class Misbehaving(BaseHTTPRequestHandler):
    """Answers as the path says."""

    released = threading.Event()  # until then /stalls stays silent after half of the content

    def do_GET(self):
        how = self.path.strip("/")
        self.server.asked.append(how)
        if how == "is-missing":
            return self.send_error(404)
        page = b"<!DOCTYPE html><title>Log in</title>"
        sent = {"sends-a-page": page, "sends-another": WHOLE[::-1]}.get(how, WHOLE)
        if how == "hangs-up-at-once":
            return None
        self.send_response(200)
        if how != "closes-early-and-told-no-length":
            self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if how.startswith(("closes-early", "stalls")):
            self.wfile.write(sent[: len(sent) // 2])
            if how == "stalls":
                self.released.wait(60)
            return None
        self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server of this machine; `url(how)` makes it answer in that way."""
    monkeypatch.delenv("DEIMOS_OFFLINE", raising=False)
    monkeypatch.setattr(files, "ANSWER_PATIENCE", 1)
    Misbehaving.released.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving) as server:
        server.daemon_threads, server.asked = True, []
        server.url = lambda how: f"http://127.0.0.1:{server.server_port}/{how}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        Misbehaving.released.set()
        server.shutdown()


def check(file):
    if file.read_bytes() != WHOLE:
        raise ValueError(f"{file} is not whole")


def left(folder):
    return [file.name for file in folder.rglob("*") if file.is_file()]


def test_a_right_download_is_kept_and_not_fetched_again(server, tmp_path, capfd):
    file = tmp_path / "new" / "file"
    for _ in range(2):
        assert files.fetch(server.url("sends-all"), file, check) == file
    assert file.read_bytes() == WHOLE and server.asked == ["sends-all"]
    assert left(tmp_path) == ["file"]
    assert capfd.readouterr().err == ""  # no bar in a log


@pytest.mark.parametrize(
    "how", ["sends-a-page", "sends-another", "closes-early-and-told-no-length"]
)
def test_what_is_not_the_file_is_said_to_be_so_and_is_not_kept(server, tmp_path, how):
    told = f"{how} is not whole; it is not kept: try again, or put the right file at .*/file"
    with pytest.raises(ValueError, match=told):
        files.fetch(server.url(how), tmp_path / "file", check)
    assert left(tmp_path) == []


@pytest.mark.parametrize("how", ["closes-early", "stalls", "hangs-up-at-once", "is-missing"])
def test_a_server_that_does_not_send_all_counts_as_none_and_leaves_nothing(server, tmp_path, how):
    assert files.fetch(server.url(how), tmp_path / "file", check) is None
    assert server.asked == [how] and left(tmp_path) == []


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/file", "http://no-such-name.invalid/file"])
def test_without_a_network_there_is_none(monkeypatch, tmp_path, place):
    monkeypatch.delenv("DEIMOS_OFFLINE", raising=False)
    assert files.fetch(place, tmp_path / "file", check) is None
    assert left(tmp_path) == []


def test_nothing_is_asked_of_the_network_where_that_is_not_wanted(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DEIMOS_OFFLINE", "1")
    assert files.fetch(server.url("sends-all"), tmp_path / "file", check) is None
    assert server.asked == []


FETCH = """
import signal, sys
from pathlib import Path
from deimos.tasks import files
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may have lost it
files.fetch(sys.argv[1], Path(sys.argv[2]), lambda file: None)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_download_that_is_killed_half_way_never_looks_complete(server, tmp_path, end):
    file = tmp_path / "file"
    ours = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    here = [sys.executable, "-c", FETCH, server.url("stalls"), str(file)]
    fetching = subprocess.Popen(here, env=ours, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in tmp_path.glob("*.part")):
        assert fetching.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    fetching.send_signal(end)
    fetching.wait(60)
    assert not file.exists()
    assert len(left(tmp_path)) == (end == signal.SIGKILL)  # Ctrl-C has time to tidy up
    assert files.fetch(server.url("sends-all"), file, check) == file
    assert left(tmp_path) == ["file"] and file.read_bytes() == WHOLE


def test_the_parts_of_running_processes_and_other_machines_are_left_alone(server, tmp_path):
    own = f"file.{files.platform.node()}-"
    parts = [
        f"{own}{os.getppid()}.part",
        "file.elsewhere-1234567.part",
        "file.part",
        f"{own}x.part",
    ]
    for name in parts:
        (tmp_path / name).write_bytes(b"who")
    files.fetch(server.url("sends-all"), tmp_path / "file", check)
    assert sorted(left(tmp_path)) == sorted([*parts, "file"])


def test_a_wrong_file_that_is_there_is_never_overwritten(server, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"mine")
    with pytest.raises(ValueError, match="file is not whole: delete it and run again"):
        files.fetch(server.url("sends-all"), file, check)
    assert file.read_bytes() == b"mine" and server.asked == []


def test_a_full_disk_is_an_error_and_not_a_network_that_is_down(server, tmp_path):
    with (
        small_disk(tmp_path / "disk", 64) as disk,
        pytest.raises(OSError, match="disk/file cannot be written .No space left.*: make room"),
    ):
        files.fetch(server.url("sends-all"), disk / "file", check)
    assert left(tmp_path) == []


def test_a_file_that_grows_too_large_for_its_place_is_an_error(server, tmp_path):
    with (
        files_of_at_most(len(WHOLE) // 2),
        pytest.raises(OSError, match="file cannot be written .File too large.*: make room"),
    ):
        files.fetch(server.url("sends-all"), tmp_path / "file", check)
    assert left(tmp_path) == []


def test_a_folder_that_may_only_be_read_is_an_error_before_anything_is_asked_for(server, tmp_path):
    with (
        small_disk(tmp_path / "disk", 64, ",ro") as disk,
        pytest.raises(OSError, match="file cannot be written .Read-only.*or set DEIMOS_DATA"),
    ):
        files.fetch(server.url("sends-all"), disk / "new" / "file", check)
    (tmp_path / "taken").write_text("not a folder")
    with pytest.raises(OSError, match="file cannot be written .*or set DEIMOS_DATA"):
        files.fetch(server.url("sends-all"), tmp_path / "taken" / "file", check)
    assert server.asked == []


@pytest.mark.parametrize("obstacle", ["nothing", "folder", "broken link"])
def test_what_cannot_be_read_is_named_and_said_why(tmp_path, obstacle):
    file = tmp_path / "file"
    if obstacle == "folder":
        file.mkdir()
    elif obstacle == "broken link":
        file.symlink_to(tmp_path / "gone")
    with pytest.raises(OSError, match="file cannot be read .(No such|Is a).*: see that it is a"):
        files.unpacked(file)
