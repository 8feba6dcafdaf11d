"""The command train: each algorithm reads its own options."""

from __future__ import annotations

import importlib
from typing import Any

import typer

from ..errors import MissingPackageError
from .output import emit, facts, unfolded

ALGORITHMS = {
    "dqn": "Deep Q-learning of a conventional network.",
    "dsqn": "Deep Q-learning of a spiking network, by surrogate gradients.",
    "reinforce": "Policy gradient of a conventional network.",
    "classify": "A classifier of a teacher's decisions in given states, conventional or spiking.",
    "distil": "A spiking network that imitates a teacher under a profile's own dynamics.",
}

train = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(train, name="train", help="Train a network; spikeloop train ALGORITHM --help lists its options.")


def _command(algorithm: str) -> Any:
    def command(context: typer.Context) -> None:
        arguments = [word for word in context.args if word != "--json"]
        try:
            module = importlib.import_module(f"..training.{algorithm}", __package__)
        except ModuleNotFoundError as error:
            raise MissingPackageError.needs("Training", str(error.name), "training") from None
        summary = module.main(arguments)
        if "--json" in context.args:
            emit(summary)
        elif summary:
            facts(f"{algorithm}: done", unfolded(summary))

    return command


for _name, _help in ALGORITHMS.items():
    train.command(
        _name,
        help=_help,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    )(_command(_name))
