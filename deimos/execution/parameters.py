"""A notebook's parameters: read from its cells, changed by a scale, checked before a run."""

import ast
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType

from deimos.experiment import settings_check
from deimos.extras import extra
from deimos.tracking import REFERENCE, ROOT

with extra("reproduce"):
    import nbformat
    import yaml


def assigned(notebook: Path) -> Iterator[tuple[str, object, object]]:
    """Name, type and value of each parameter, from the cells tagged `parameters`."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.AnnAssign):
                    kind = eval(ast.unparse(line.annotation))
                    yield line.target.id, kind, ast.literal_eval(line.value)
                elif isinstance(line, ast.Assign):
                    value = ast.literal_eval(line.value)
                    yield line.targets[0].id, type(value), value


def declared(notebook: Path) -> dict[str, object]:
    """Each parameter and its type."""
    return {name: kind for name, kind, _ in assigned(notebook)}


def is_a(value: object, kind: object) -> bool:
    """True if a parameter's value fits its annotation: an int is a float, a bool is no number."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is UnionType:
        return any(is_a(value, k) for k in inner)
    if origin is list:
        return isinstance(value, list) and all(is_a(v, inner[0]) for v in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else origin or kind)


def check_parameters(notebook: Path, parameters: dict[str, object]) -> None:
    """Check parameters, of which papermill would only warn; `ValueError` names every problem."""
    kinds, problems = declared(notebook), []
    values = {name: value for name, _, value in assigned(notebook)}
    for name, value in parameters.items():
        if name not in kinds:
            problems.append(settings_check.unknown("parameter", name, kinds))
        elif not is_a(value, kinds[name]):
            wanted = getattr(kinds[name], "__name__", kinds[name])
            problem = f"{name} = {value!r} is {type(value).__name__}, not {wanted}"
            if wanted == "float" and re.fullmatch(r"-?[0-9]+e-?[0-9]+", str(value)):
                problem += f": write {str(value).replace('e', '.0e')}"  # else a word to YAML
            problems.append(problem)
            del values[name]
        else:
            values[name] = value
    if problems := dict.fromkeys(problems + impossible(values, kinds)):
        raise ValueError(f"{notebook.name}: " + "; ".join(problems))


def impossible(values: dict[str, object], kinds: dict[str, object]) -> list[str]:
    """Problems of a notebook's parameters, taken as the settings of a fleet for each batch size.

    A list of words names methods, unless it is called otherwise in `settings_check.WORDS`; another
    list beside `batch_sizes` has an entry for each of them.
    """
    said, values = [], dict(values)
    sizes = values.pop("batch_sizes", [values.get("batch_size")])
    if not sizes:
        said.append("batch_sizes is empty")
    for name in ("n_acquired", "n_points"):
        if isinstance(values.get(name), list) and len(values[name]) != len(sizes):
            got = len(values.pop(name))
            said.append(
                f"{name} has {got} entries, wanted {len(sizes)}: one for each of batch_sizes"
            )
    named = [name for name in values if name not in settings_check.WORDS]
    words = [name for name in named if kinds[name] == list[str]]
    for name in words:
        said += (
            settings_check.invalid_settings({"methods": values.pop(name)}) if values[name] else []
        )
    for at, size in enumerate(sizes or [None]):
        one = {
            k: values[k][at] for k in ("n_acquired", "n_points") if isinstance(values.get(k), list)
        }
        said += settings_check.invalid_settings(values | one | {"batch_size": size})
    return said


class PlainLoader(yaml.SafeLoader):
    """YAML whose plain words are what they look like: 0123 is no octal number, yes no truth."""

    yaml_implicit_resolvers = {}


for tag, form, begins in (
    ("null", r"~|null|Null|NULL|None|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf)|\.(nan|NaN)", list("-+.")),
):
    PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^({form})$"), begins)


def read_value(name: str, value: str, kind: object = object) -> object:
    """A parameter from the command line: a number, a word, or a list in brackets.

    What a parameter of words (`kind`) is given stays as it was typed, to the letter.
    """
    try:
        read = PlainLoader(value).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(f"-p {name} {value}: write a value as YAML, such as [1, 2]") from error
    words = isinstance(kind, type | UnionType) and is_a(value, kind)
    return value if words and not is_a(read, kind) else read


def scale_parameters(notebook: Path, scale: str) -> dict[str, object]:
    """Parameters that `scale` changes; `ValueError` if its file does not name the notebook."""
    if scale in ("paper", REFERENCE):
        return {}
    return values_at(notebook.stem, scale, notebook.parent)


def values_at(notebook: str, scale: str, folder: Path = ROOT / "notebooks") -> dict[str, object]:
    """Values that a scale's file has for a notebook: of "paper" all, of others what they change."""
    file = folder / "scales" / f"{scale}.yaml"
    scales = yaml.safe_load(file.read_text(encoding="utf-8"))
    if notebook not in scales:
        raise ValueError(f"{file.name} says nothing about {notebook}")
    return scales[notebook]


def parameters_for(
    notebook: Path, scale: str, repeats: int | None, by_hand: Sequence[Sequence[str]] = ()
) -> dict[str, object]:
    """Parameters that differ from the notebook's own; `ValueError` naming every problem."""
    common = {"scale": scale, "repeats": repeats}
    asked = {k: v for k, v in common.items() if v is not None and k in declared(notebook)}
    kinds = declared(notebook)
    given = {name: read_value(name, value, kinds.get(name, object)) for name, value in by_hand}
    parameters = scale_parameters(notebook, scale) | asked | given
    check_parameters(notebook, parameters)
    return parameters
