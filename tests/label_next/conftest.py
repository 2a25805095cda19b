import pytest

from deimos.__main__ import main


@pytest.fixture
def look(tmp_path, capsys):
    """`--dry-run` on files in a folder: the lines that it says, or the sentence that refuses."""

    def look(pool, labelled, *more):
        labelled = [labelled] if isinstance(labelled, str) else labelled
        names = [str(tmp_path / name) for name in labelled]
        asked = ["--dry-run", "--pool", str(tmp_path / pool), "--labelled", *names, *more]
        status = main(["select", *asked])
        out, err = capsys.readouterr()
        assert status in (0, 2) and "Traceback" not in err
        if status == 2:
            assert err.count("\n") == 1
            return err.strip()
        return out

    return look
