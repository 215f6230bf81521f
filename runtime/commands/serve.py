"""Serve bundles over HTTP."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from runtime.commands.argument_types import count, positive, whole_number
from runtime.commands.arguments import add_engine_options, dicom_options
from runtime.errors import InputError, MissingExtraError
from runtime.process.wording import RESEARCH_ONLY
from runtime.serve.limits import Limits
from runtime.serve.server_state import TASKS
from runtime.serve.settings import EngineOptions, IndexFolder, Settings

NAME = "serve"
SUMMARY = f"Serve bundles over HTTP. {RESEARCH_ONLY}"

_EXTRA = ("starlette", "uvicorn", "httptools", "orjson", "prometheus_client", "python_multipart")
_MODEL_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SIZE = re.compile(r"(\d+)\s*([kmg]?)(i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(text: str) -> int:
    """Bytes: a number, or one with K, M or G after it, which are powers of 1,024."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r}; a size such as 64M is expected")
    return int(found[1]) * _UNITS[found[2].lower()]


class _Bound(NamedTuple):
    """An option that sets a field of `Limits`."""

    option: str
    field: str
    convert: Callable[[str], Any]
    metavar: str
    help: str


_BOUNDS = (
    _Bound("--max-json", "json_bytes", size, "SIZE", "bytes of a JSON body without images"),
    _Bound("--max-images-size", "image_bytes", size, "SIZE", "bytes of a body with images"),
    _Bound("--max-texts", "texts", count, "N", "texts a request"),
    _Bound("--max-images", "images", count, "N", "images a request"),
    _Bound("--max-characters", "characters", count, "N", "characters a text"),
    _Bound("--max-pixels", "pixels", count, "N", "pixels an image"),
    _Bound("--max-requests", "requests", count, "N", "requests that are answered at a time"),
    _Bound("--max-bodies", "body_bytes", size, "SIZE", "bytes that all requests hold at a time"),
    _Bound("--max-connections", "connections", count, "N", "open connections"),
    _Bound(
        "--max-wait", "wait_seconds", positive, "SECONDS", "predicted wait, beyond which requests are refused (429)"
    ),
    _Bound("--max-queue", "queue_items", count, "N", "texts and images that wait"),
    _Bound("--max-seconds", "request_seconds", positive, "SECONDS", "that a request may take"),
    _Bound("--header-seconds", "header_seconds", positive, "SECONDS", "until a request's headers must be there"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "bundles",
        nargs="+",
        metavar="BUNDLE",
        help="folder written by python -m export, or name=folder; requests name one of several, the first by default",
    )
    place = parser.add_argument_group("where")
    place.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine alone)")
    place.add_argument("--port", type=_port, default=8080, help="port to listen on, 0 for a free one (8080)")
    place.add_argument("--uds", type=Path, metavar="SOCKET", help="listen on a Unix socket instead")
    access = parser.add_mutually_exclusive_group()
    access.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="clients must show one of these keys, one a line; read again at SIGHUP",
    )
    access.add_argument(
        "--no-auth", action="store_true", help="let everybody in who reaches an address beyond loopback"
    )
    parser.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of this origin ask, such as https://reports.example (repeatable; none)",
    )
    parser.add_argument("--task", default=TASKS[0], choices=TASKS, help=f"what POST / is ({TASKS[0]})")
    parser.add_argument("--no-page", action="store_true", help="no page for people at /")
    parser.add_argument(
        "--index",
        action="append",
        default=[],
        metavar="NAME=FOLDER[:ROOT]",
        help="offer an index for search; ROOT is the folder that relative paths of its pictures start from, without "
        "which none are shown (repeatable)",
    )
    parser.add_argument("--auto-truncate", action="store_true", help="cut texts that are too long, unless asked not to")
    parser.add_argument(
        "--decode-processes",
        type=whole_number,
        metavar="N",
        help="a bundle's images that are decoded at a time (1 for every 2 cores), each in a process of its own, which "
        "may crash; 0 decodes on threads, where a broken DICOM file can end the server",
    )
    parser.add_argument(
        "--workers", type=count, default=1, help="server processes that share the processors (1); bounds hold for each"
    )
    parser.add_argument(
        "--drain-seconds",
        type=positive,
        default=30.0,
        metavar="SECONDS",
        help="that requests under way have when the server is told to stop (30)",
    )
    parser.add_argument("--log-json", action="store_true", help="log lines are JSON")
    bounds = parser.add_argument_group("bounds, beyond which clients are refused")
    defaults = Limits()
    for each in _BOUNDS:
        default = getattr(defaults, each.field)
        shown = _shown(default) if each.convert is size else f"{default:.12g}"
        bounds.add_argument(
            each.option,
            dest=each.field,
            type=each.convert,
            default=default,
            metavar=each.metavar,
            help=f"{each.help} ({shown})",
        )
    add_engine_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    for package in _EXTRA:
        try:
            importlib.import_module(package)
        except ImportError:
            raise MissingExtraError("The server", package.replace("_", "-"), "serve") from None
    settings = _settings(options)
    _check_access(settings, options.no_auth)
    from runtime.serve.process import serve

    return serve(settings)


def _settings(options: argparse.Namespace) -> Settings:
    engine = EngineOptions(
        options.provider,
        options.precision,
        options.threads,
        options.min_fidelity,
        dicom_options(options),
        options.fast_decode,
        options.refuse_long,
        options.text_cache,
        options.share,
        not options.no_trial,
    )
    return Settings(
        bundles=_bundles(options.bundles),
        engine=engine,
        limits=dataclasses.replace(Limits(), **{each.field: getattr(options, each.field) for each in _BOUNDS}),
        indexes=tuple(_index(given) for given in options.index),
        task=options.task,
        page=not options.no_page,
        auto_truncate=options.auto_truncate,
        decode_processes=options.decode_processes,
        host=options.host,
        port=options.port,
        uds=options.uds,
        key_file=options.api_key_file,
        origins=tuple(_origin(given) for given in options.cors_origin),
        drain_seconds=options.drain_seconds,
        workers=options.workers,
        log_json=options.log_json,
    )


def _bundles(given: list[str]) -> dict[str, str]:
    bundles: dict[str, str] = {}
    for each in given:
        name, equals, folder = each.partition("=")
        if not equals or Path(each).exists():
            name, folder = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(each).absolute().name)[:64] or "default", each
        if not _MODEL_NAME.fullmatch(name):
            raise InputError(
                f"'{name}' cannot name a bundle: letters, digits, '.', '_' and '-' are expected, at most 64."
            )
        if name in bundles:
            raise InputError(f"Two bundles are called '{name}'. Name them: first={bundles[name]} second={folder}")
        bundles[name] = folder
    return bundles


def _index(given: str) -> IndexFolder:
    name, _, rest = given.partition("=")
    if not rest or not _MODEL_NAME.fullmatch(name):
        raise InputError(
            f"--index {given}: NAME=FOLDER or NAME=FOLDER:ROOT is expected, such as films=out/index:films."
        )
    if Path(rest).exists() or ":" not in rest:
        return IndexFolder(name, Path(rest))
    folder, _, root = rest.rpartition(":")
    return IndexFolder(name, Path(folder), Path(root))


def _check_access(settings: Settings, no_auth: bool) -> None:
    """Refuse to serve other machines without keys, unless that was asked for."""
    from runtime.serve.operation.sockets import loopback_only

    if settings.uds is None and settings.key_file is None and not no_auth and not loopback_only(settings.host):
        raise InputError(
            f"--host {settings.host} lets other machines in, and there are no keys. Give clients keys with "
            "--api-key-file FILE, or let everybody in with --no-auth."
        )


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port}; a number from 0 to 65535 is expected")
    return port


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[^/*?#\s]+", text):
        raise InputError(f"--cors-origin {text}: an origin such as https://reports.example is expected.")
    return text.lower()


def _shown(value: int) -> str:
    unit = next(unit for unit in ("g", "m", "k", "") if value % _UNITS[unit] == 0)
    return f"{value // _UNITS[unit]}{unit.upper()}"
