"""How every command is made: options that all of them have, coroutines run, errors told in one line."""

from __future__ import annotations

import asyncio
import inspect
import os
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, Concatenate, ParamSpec, cast, get_type_hints

import typer

from tq.errors import TqError

from .output import fail, silence

__all__ = ["DEFAULT_URL", "Common", "Debug", "Json", "Url", "command"]

A = ParamSpec("A")

DEFAULT_URL = "sqlite:///tq.db"

Url = Annotated[
    str | None,
    typer.Option(
        "--url", help=f"The backend; TQ_URL if not given, and {DEFAULT_URL} without that.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")]


@dataclass(frozen=True, slots=True)
class Common:
    """What every command is told, before its name or after it."""

    url: str = DEFAULT_URL
    json: bool = False
    debug: bool = False
    url_given: bool = False
    """Whether `--url` was written, and is no default."""


def command(
    *, url: bool = True
) -> Callable[[Callable[Concatenate[Common, A], Coroutine[Any, Any, None] | None]], Callable[..., None]]:
    """Make a command of a function whose first argument is `Common`; without `url` it takes no --url.

    The options stand on each command and on `tq` itself: people write them where they think of them.
    """

    def decorate(function: Callable[Concatenate[Common, A], Coroutine[Any, Any, None] | None]) -> Callable[..., None]:
        @wraps(function)
        def run(
            *, ctx: typer.Context, url: str | None = None, json: bool = False, debug: bool = False, **given: Any
        ) -> None:
            before = ctx.obj if isinstance(ctx.obj, Common) else Common()
            given_url = url is not None or before.url_given
            common = Common(url or before.url, json or before.json, debug or before.debug, given_url)
            _run(cast("Callable[..., Coroutine[Any, Any, None] | None]", function), common, given)

        own = inspect.signature(function)
        hints = get_type_hints(function, include_extras=True)
        parameters = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in list(own.parameters.values())[1:]
        ]
        added: dict[str, tuple[Any, Any]] = {"json": (Json, False), "debug": (Debug, False)}
        if url:
            added = {"url": (Url, None), **added}
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
            for name, (hint, default) in added.items()
        ]
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters.append(context)
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _run(function: Callable[..., Coroutine[Any, Any, None] | None], common: Common, given: dict[str, Any]) -> None:
    try:
        work = function(common, **given)
        if work is not None:
            asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:  # `tq tasks | head` has seen enough
        silence()
    except (TqError, OSError) as error:
        if common.debug:
            traceback.print_exc()
        fail(_words(error))


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{os.fspath(error.filename)!s}: {error.strerror}"
    return str(error) or type(error).__name__
