"""Nothing secret is written down, nobody from elsewhere is let in, and no other wheel gets in."""

import base64
import hashlib
import re
import shlex
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import deimos
from deimos.execution import notebooks
from deimos.record import store

ROOT = Path(deimos.__file__).parents[1]
SECRET = "correct-horse-battery"
SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": SECRET,
    "MLFLOW_TRACKING_TOKEN": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "HF_TOKEN": SECRET,
    "PIP_INDEX_URL": f"https://me:{SECRET}@pypi.example/simple",
}


def recipe(target):
    """The commands that make would run for a target, as it prints them."""
    ask = ["make", "-nB", "--no-print-directory", target]
    return subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def holding(secret, *folders):
    """The files with a secret in them, also if it is written in base64."""
    forms = [form(secret.encode()) for form in (bytes, base64.b64encode)]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert files
    return [file.name for file in files if any(form in file.read_bytes() for form in forms)]


@pytest.fixture
def server():
    """A tracking server that notes who asks, and refuses everything but to say that it is there."""
    asked = []

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            self.send_response(200 if self.path.endswith("/health") else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening.server_port, asked
        listening.shutdown()


@pytest.mark.soak
def test_no_secret_of_the_environment_is_in_the_record_the_notebook_or_its_page(
    tmp_path, write_notebook, monkeypatch, capfd
):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    cells = [
        "from deimos import tracking\nplace = tracking.experiment('tiny', 'Is it safe?', 'paper')",
        "import pandas as pd\ntracking.log_table(place, pd.DataFrame({'a': [n]}), 'seen')\nplace",
    ]
    notebook = write_notebook(tmp_path / "notebooks/tiny.ipynb", "n: int = 1", *cells)
    assert notebooks.notebook_program([str(notebook)]) == 0
    assert (tmp_path / "mlruns/artifacts").exists()
    assert holding(SECRET, tmp_path) == []
    assert SECRET not in "".join(capfd.readouterr())


def test_a_servers_password_in_its_address_is_used_but_never_told(
    tmp_path, write_notebook, monkeypatch, capfd, server
):
    port, asked = server
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # put back afterwards
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    notebook = write_notebook(tmp_path / "notebooks/tiny.ipynb", "n: int = 1")
    assert notebooks.notebook_program([str(notebook)]) == 1
    said = "".join(capfd.readouterr())
    assert f"the record at http://127.0.0.1:{port} cannot be opened: " in said
    assert SECRET not in said and holding(SECRET, tmp_path) == []
    me = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert me in [who for _, who in asked]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://me:p@ss@host/runs is down", "postgresql://host/runs is down"),
        ("at https://token@host: and http://a:b@c/d", "at https://host: and http://c/d"),
        ("sqlite:///a@b/mlflow.db, write to me@host", "sqlite:///a@b/mlflow.db, write to me@host"),
    ],
)
def test_addresses_are_told_without_their_passwords(text, told):
    assert store.why(ValueError(f"{text}\n[SQL: SELECT {text}]")) == told


def test_jupyter_is_on_this_machine_alone_and_keeps_its_token():
    said = shlex.split(recipe("lab").splitlines()[-1])
    assert said[said.index("--ip") + 1] == "127.0.0.1"
    assert not re.search("token|password|allow|0\\.0\\.0\\.0", " ".join(said))


@pytest.fixture
def wheel(tmp_path):
    """A wheel with nothing but a module in it."""
    file = tmp_path / "wheels" / "honest-1.0-py3-none-any.whl"
    file.parent.mkdir()
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: honest\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("honest.py", "")
        for name, text in about.items():
            archive.writestr(f"honest-1.0.dist-info/{name}", text)
    return file


@pytest.mark.parametrize("change", ["none", "one byte", "no hash"])
def test_what_make_installs_must_have_the_hash_of_the_lock(wheel, tmp_path, change):
    installs = [line for line in recipe("env").splitlines() if "-r requirements.lock" in line]
    assert len(installs) == 1
    flags = shlex.split(installs[0].partition(" install ")[2])
    lock, target = tmp_path / "requirements.lock", tmp_path / "target"
    known = f" --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    lock.write_text("honest==1.0" + ("" if change == "no hash" else known) + "\n")
    if change == "one byte":
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.comment = b"!"
    here = ["--no-index", "--find-links", str(wheel.parent), "--target", str(target)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *flags, *here],
        **{"cwd": tmp_path, "capture_output": True, "text": True},
    )
    if change == "none":
        assert done.returncode == 0 and (target / "honest.py").exists()
    else:
        assert done.returncode != 0 and not target.exists()
        wanted = {"one byte": "DO NOT MATCH THE HASHES", "no hash": "Hashes are required"}[change]
        assert wanted in done.stderr
