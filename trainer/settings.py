"""One command-line option for every setting of a configuration class, made from the class itself."""

import argparse
from collections.abc import Container
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from .config import EncoderConfig, FinetuneConfig, PretrainConfig, alternatives, from_json, option, to_json
from .errors import TrainerError

Config = TypeVar("Config", bound=EncoderConfig | PretrainConfig | FinetuneConfig)


def add_settings(parser: argparse.ArgumentParser, kind: type[Config], names: Container[str] | None = None) -> None:
    """Add ``--name value`` for every setting of ``kind``, those of its encoder included, or for ``names`` alone."""
    group = parser.add_argument_group("settings" if kind is not EncoderConfig else "encoder")
    hints = get_type_hints(kind)
    for item in fields(kind):
        if names is not None and item.name not in names:
            continue
        hint = hints[item.name]
        if is_dataclass(hint):
            add_settings(parser, EncoderConfig)
            continue
        text = f"{item.metadata['help']} (default: {item.default})"
        group.add_argument(option(item.name), default=argparse.SUPPRESS, help=text.replace("%", "%%"), **_kind(hint))


def config_from(args: argparse.Namespace, kind: type[Config], inherited: EncoderConfig | None = None) -> Config:
    """The configuration that the command line gives.

    ``inherited`` is the encoder that the run begins with; TrainerError where the command line asks for another.
    """
    encoder = _given(args, EncoderConfig)
    if inherited is not None:
        kept = to_json(inherited)
        for name, value in encoder.items():
            if value != kept[name]:
                raise TrainerError(f"{option(name)}: expected {kept[name]}, as in --init, got {value}; leave it out")
    return from_json(kind, {**_given(args, kind), "encoder": encoder if inherited is None else kept})


def _given(args: argparse.Namespace, kind: type[Config]) -> dict[str, Any]:
    """The settings of ``kind`` that were given, without its encoder's."""
    return {item.name: getattr(args, item.name) for item in fields(kind) if hasattr(args, item.name)}


def _kind(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    hint = next(part for part in alternatives(hint) if part is not type(None))
    if choices := get_args(hint):
        return {"type": type(choices[0]), "choices": choices}
    return {"type": hint, "metavar": {int: "N", float: "X", str: "NAME"}[hint]}
