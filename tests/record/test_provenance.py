import platform

import pytest
import torch

from deimos.record.provenance import code_fingerprint, machine, processor

CODE = 'import math\n\n\ndef area(r):\n    """πr²."""\n    return math.pi * r**2\n'


@pytest.fixture
def fingerprint(tmp_path):
    def of(code, module="experiment/loop"):
        (tmp_path / module).parent.mkdir(exist_ok=True)
        (tmp_path / f"{module}.py").write_text(code)
        return code_fingerprint(tmp_path)

    return of


def test_comments_docstrings_and_layout_do_not_change_the_fingerprint(fingerprint):
    rewritten = (
        '"""Circles."""\nimport math\n\ndef area(r):\n    return (math.pi *\n  r ** 2)  # exact\n'
    )
    assert fingerprint(CODE) == fingerprint(rewritten)


@pytest.mark.parametrize("change", [("r**2", "r**3"), ("(r)", "(r=1)"), ("area", "volume")])
def test_code_that_does_something_else_changes_the_fingerprint(fingerprint, change):
    assert fingerprint(CODE) != fingerprint(CODE.replace(*change))


def test_a_string_that_is_no_docstring_counts(fingerprint):
    assert fingerprint('name = "a"\n') != fingerprint('name = "b"\n')


def test_only_the_modules_that_decide_a_number_count(fingerprint):
    assert fingerprint(CODE) == fingerprint(CODE, module="report/figures")
    assert fingerprint(CODE) != fingerprint(CODE, module="models/training")


def test_other_modules_count_where_they_are_named_and_must_be_there(fingerprint, tmp_path):
    found = []
    for code in (CODE, CODE.replace("r**2", "r**3")):
        name = "pool/select_batch"
        found += [fingerprint(code, module=name), code_fingerprint(tmp_path, [name])]
    alone, named, alone_changed, named_changed = found
    assert alone == alone_changed and len({alone, named, named_changed}) == 3
    with pytest.raises(FileNotFoundError, match="select_bach"):
        code_fingerprint(tmp_path, also=["pool/select_bach"])


def test_numbers_stored_beside_the_code_count(fingerprint, tmp_path):
    before = fingerprint(CODE)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/initial_sets.json").write_text("[1, 2]")
    assert fingerprint(CODE) != before


def test_the_machine_is_told_in_words_that_fit_tags():
    told = machine()
    assert {"commit", "dirty", "device", "threads", "torch", "python"} <= told.keys()
    assert all(isinstance(word, str) and word for word in told.values())


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("model name\t: Intel(R) Xeon(R) CPU @ 2.60GHz\nflags\t: avx amx_bf16 amx_tile\n" * 2,
         "Intel Xeon, {} and AMX"),
        ("model name\t: AMD EPYC 9R14 96-Core Processor\nflags\t: avx512_bf16\n",
         "AMD EPYC 9R14 96-Core, {}"),
        ("processor\t: 0\n", f"{platform.processor() or platform.machine()}, {{}}"),
        (None, f"{platform.processor() or platform.machine()}, {{}}"),
    ],
)  # fmt: skip
def test_the_processor_is_told_with_what_decides_how_it_rounds(told, name, tmp_path):
    file = tmp_path / "cpuinfo"
    if told is not None:
        file.write_text(told)
    assert processor(file) == name.format(torch.backends.cpu.get_cpu_capability())
