"""A dataclass as a command line: its fields are the options, its docstring is their help."""

from __future__ import annotations

import argparse
import inspect
import re
import types
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")


def parse(settings: type[Settings], program: str, argv: Sequence[str] | None = None) -> Settings:
    """Read `settings`, a dataclass, from the command line.

    Every field becomes the option ``--name``; its type says how the value is read (int, float, str, Path, Literal,
    bool as ``--name`` and ``--no-name``, ``tuple[T, ...]`` as several values), and the "Parameters" section of the
    numpydoc docstring says what it means. A field `output` is also ``-o``.
    """
    doc = inspect.getdoc(settings) or ""
    parser = argparse.ArgumentParser(program, description=doc.split("\n\n")[0])
    texts = _parameters(doc)
    hints = get_type_hints(settings)
    for field in fields(settings):  # type: ignore[arg-type]  # a dataclass, which TypeVar cannot say
        option = "--" + field.name.replace("_", "-")
        names = ["-o", option] if field.name == "output" else [option]
        shown = "" if field.default in (MISSING, None) else f" [{_shown(field.default)}]"
        parser.add_argument(
            *names,
            dest=field.name,
            default=None if field.default is MISSING else field.default,
            required=field.default is MISSING,
            help=(texts.get(field.name, "") + shown).replace("%", "%%"),
            **_reading(hints[field.name]),
        )
    given = vars(parser.parse_args(argv))
    return settings(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def _reading(hint: Any) -> dict[str, Any]:
    origin, parts = get_origin(hint), [part for part in get_args(hint) if part is not type(None)]
    if origin in (Union, types.UnionType):
        return _reading(parts[0])
    if origin is Literal:
        return {"choices": parts}
    if origin is tuple:
        return {"type": parts[0], "nargs": "+", "metavar": parts[0].__name__.upper()}
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": hint, "metavar": "PATH" if hint is Path else hint.__name__.upper()}


def _shown(value: object) -> str:
    return " ".join(str(part) for part in value) if isinstance(value, tuple) else str(value)


def _parameters(doc: str) -> dict[str, str]:
    """The "Parameters" section of a numpydoc docstring: name -> text; names with a common text stand on one line."""
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n|\Z)", doc, re.DOTALL)
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in section[1].splitlines() if section else ():
        head = re.match(r"(\w[\w, ]*) : ", line)
        if head:
            names = [name.strip() for name in head[1].split(",")]
        else:
            texts |= {name: f"{texts.get(name, '')} {line.strip()}".strip() for name in names}
    return texts
