"""A dataclass as a command line: its fields are the options, its docstring is their help."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import InvalidInputError, SpikeloopError

Settings = TypeVar("Settings")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{message}. {self.prog} --help says how.")


def parse(settings: type[Settings], program: str, argv: Sequence[str] | None = None) -> Settings:
    """Read `settings`, a dataclass, from the command line; see `parse_given`."""
    return parse_given(settings, program, argv)[0]


def parse_given(
    settings: type[Settings],
    program: str,
    argv: Sequence[str] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Settings, frozenset[str]]:
    """Read `settings`, a dataclass, from the command line, and say which fields were given there.

    Every field becomes the option ``--name``; its type says how the value is read (int, float, str, Path, Literal,
    bool as ``--name`` and ``--no-name``, ``tuple[T, ...]`` as several values), and the "Parameters" section of the
    numpydoc docstring says what it means. A field `output` is also ``-o``, and `for_` is ``--for``.

    Parameters
    ----------
    presets : mapping, optional
        Environment -> defaults of some fields there, used where the option ``--env`` names that environment.

    Raises
    ------
    InvalidInputError
        If an option is unknown, missing or cannot be read.
    """
    argv = sys.argv[1:] if argv is None else argv
    doc = inspect.getdoc(settings) or ""
    parser = _Parser(program, description=doc.split("\n\n")[0], argument_default=argparse.SUPPRESS, allow_abbrev=False)
    own = _own_defaults(settings, argv, presets or {})
    texts = _parameters(settings)
    hints = get_type_hints(settings)
    for field in fields(settings):  # type: ignore[arg-type]  # a dataclass, which TypeVar cannot say
        option = "--" + field.name.rstrip("_").replace("_", "-")
        names = ["-o", option] if field.name == "output" else [option]
        default = own.get(field.name, field.default)
        shown = "" if default in (MISSING, None) else f" [{_shown(default)}]"
        parser.add_argument(
            *names,
            dest=field.name,
            required=default is MISSING,
            help=(texts.get(field.name, "") + shown).replace("%", "%%"),
            **_reading(hints[field.name]),
        )
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(parser.parse_args(argv)).items()
    }
    return settings(**{**own, **given}), frozenset(given)


def _own_defaults(
    settings: type[Any], argv: Sequence[str], presets: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    """What `presets` say of the environment that the command line names, or of the default one."""
    if not presets:
        return {}
    finder = _Parser(add_help=False, allow_abbrev=False)
    finder.add_argument("--env", default=next(field.default for field in fields(settings) if field.name == "env"))
    return presets.get(finder.parse_known_args(argv)[0].env, {})


def run_as_script(main: Callable[[], object]) -> None:
    """Run a file's `main` as a program: every error on purpose becomes one line and an exit code."""
    try:
        main()
    except SpikeloopError as error:
        sys.exit(_said(str(error), error.exit_code))
    except KeyboardInterrupt:
        sys.exit(_said("Interrupted.", 130))


def _said(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _reading(hint: Any) -> dict[str, Any]:
    origin, parts = get_origin(hint), [part for part in get_args(hint) if part is not type(None)]
    if origin in (Union, types.UnionType):
        return _reading(parts[0])
    if origin is Literal:
        return {"choices": parts}
    if origin is tuple:
        return {"type": parts[0], "nargs": "+", "action": "extend", "metavar": parts[0].__name__.upper()}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": hint, "metavar": "PATH" if hint is Path else hint.__name__.upper()}


def _shown(value: object) -> str:
    return " ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)


def _parameters(settings: type[Any]) -> dict[str, str]:
    """The "Parameters" sections of a class and its bases: name -> text; names with a common text stand on one line."""
    texts: dict[str, str] = {}
    for part in reversed(settings.__mro__):
        section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n|\Z)", inspect.cleandoc(part.__doc__ or ""), re.DOTALL)
        names: list[str] = []
        for line in section[1].splitlines() if section else ():
            head = re.match(r"(\w[\w, ]*) : ", line)
            if head:
                names = [name.strip() for name in head[1].split(",")]
                texts |= dict.fromkeys(names, "")
            else:
                texts |= {name: f"{texts[name]} {line.strip()}".strip() for name in names}
    return texts
