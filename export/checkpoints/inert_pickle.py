"""What a pickle describes, without running anything: only numbers, text and containers are made.

Python's own unpickler imports the classes that a pickle names and calls what it says to call. This one follows the same
instructions on a stack of its own and writes down a class or function as a `Named`, and what would be made of it as a
`Record`. Nothing is imported, called or compared; memory grows with the pickle's length and no faster.

Source: CPython, `Lib/pickle.py` (the instructions) and `Lib/pickletools.py`, which takes them apart.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import IO, Any

__all__ = ["Named", "PickleDamageError", "Record", "read_pickle"]

_ATOMS = (str, bytes, int, float, bool, type(None))


class PickleDamageError(ValueError):
    """Bytes that no program pickled, or instructions that nothing is needed for here."""


@dataclass(frozen=True)
class Named:
    """A class or function that a pickle names: "torch._utils._rebuild_tensor_v2"."""

    name: str


# As keys they are told apart by what they are, not by what is in them; written out, records of records never end.
@dataclass(eq=False, repr=False)
class Record:
    """An object of a class that was not imported.

    Attributes:
        made_by: the class or function that it would be made by; whatever else stood there in a damaged file.
        arguments: what that would be called with.
        state: what it would be given then; None where nothing.
        items: of a mapping: key → value.
        elements: of a list or set.
    """

    made_by: Any
    arguments: Any = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Record({self.made_by.name if isinstance(self.made_by, Named) else type(self.made_by).__name__})"


def read_pickle(
    stream: IO[bytes],
    persistent: Callable[[Any], Any] | None = None,
    rebuild: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
) -> Any:
    """Follow a pickle's instructions to its end, which is where the stream then stands.

    Args:
        stream: binary.
        persistent: what a persistent id stands for: torch's storages. Without it there may be none.
        rebuild: name of a function → what is called in its place with the arguments that the pickle gives, so that
            nothing but this program's own runs.

    Returns:
        Numbers, text, bytes, lists, tuples, dictionaries, `Named`, `Record` and what `persistent` and `rebuild` give.

    Raises:
        PickleDamageError: it is damaged or cut short, has keys that are containers, or refers to something outside.
    """
    machine = _Machine(persistent, rebuild)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.follow(opcode.name, argument)
        (found,) = machine.stack
    except PickleDamageError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise PickleDamageError(f"it is damaged or cut short ({type(error).__name__})") from None
    return found


class _Machine:
    """The stack, the marks on it and the memo."""

    def __init__(self, persistent: Callable[[Any], Any] | None, rebuild: Mapping[str, Callable[..., Any]]) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._persistent = persistent
        self._rebuild = rebuild

    def follow(self, name: str, argument: Any) -> None:
        """One instruction, by its name in pickletools."""
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _REMEMBERED:
            self._memo[len(self._memo) if argument is None else argument] = self.stack[-1]
        elif name in _RECALLED:
            self.stack.append(self._memo[argument])
        elif name in _TUPLES:
            self.stack.append(tuple(self._take(_TUPLES[name])))
        elif name not in _IGNORED:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise PickleDamageError(f"it has the instruction {name}, which no weights need")
            step(argument)

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) - count < (self._marks[-1] if self._marks else 0):
            raise IndexError
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _to_mark(self) -> list[Any]:
        start = self._marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self.stack))

    def _pop_mark(self, _: Any) -> None:
        self._to_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._to_mark()))

    def _list(self, _: Any) -> None:
        self.stack.append(self._to_mark())

    def _dict(self, _: Any) -> None:
        self.stack.append(_paired(self._to_mark()))

    def _frozenset(self, _: Any) -> None:
        self.stack.append(Record(Named("builtins.frozenset"), elements=self._to_mark()))

    def _append(self, _: Any) -> None:
        _extend(self.stack[-2], self._take(1))

    def _appends(self, _: Any) -> None:
        elements = self._to_mark()
        _extend(self.stack[-1], elements)

    _additems = _appends

    def _setitem(self, _: Any) -> None:
        _update(self.stack[-3], self._take(2))

    def _setitems(self, _: Any) -> None:
        pairs = self._to_mark()
        _update(self.stack[-1], pairs)

    def _global(self, argument: str) -> None:
        self.stack.append(Named(argument.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        module, name = self._take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        self.stack.append(Named(f"{module}.{name}"))

    def _inst(self, argument: str) -> None:
        self.stack.append(Record(Named(argument.replace(" ", ".", 1)), tuple(self._to_mark())))

    def _obj(self, _: Any) -> None:
        made_by, *arguments = self._to_mark()
        self.stack.append(Record(made_by, tuple(arguments)))

    def _newobj(self, _: Any) -> None:
        made_by, arguments = self._take(2)
        self.stack.append(Record(made_by, arguments))

    def _newobj_ex(self, _: Any) -> None:
        made_by, *arguments = self._take(3)
        self.stack.append(Record(made_by, tuple(arguments)))

    def _reduce(self, _: Any) -> None:
        made_by, arguments = self._take(2)
        own = self._rebuild.get(made_by.name) if isinstance(made_by, Named) else None
        if own is not None and not isinstance(arguments, tuple):
            raise TypeError
        self.stack.append(Record(made_by, arguments) if own is None else own(*arguments))

    def _build(self, _: Any) -> None:
        (state,) = self._take(1)
        if isinstance(self.stack[-1], Record):  # of a dictionary with attributes, such as OrderedDict, they are dropped
            self.stack[-1].state = state

    def _binpersid(self, _: Any) -> None:
        (key,) = self._take(1)
        if self._persistent is None:
            raise PickleDamageError("it refers to something outside")
        self.stack.append(self._persistent(key))

    def _pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self.stack):
            self._marks.pop()
        else:
            self.stack.pop()


def _extend(target: Any, elements: list[Any]) -> None:
    own = target.elements if isinstance(target, Record) else target
    if not isinstance(own, list):
        raise TypeError
    own.extend(elements)


def _update(target: Any, pairs: list[Any]) -> None:
    own = target.items if isinstance(target, Record) else target
    if not isinstance(own, dict):
        raise TypeError
    own.update(_paired(pairs))


def _paired(flat: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn → a dictionary.

    Tuples within tuples would be hashed for ever: twice as long with each level, which takes four bytes of a pickle.
    """
    keys = flat[::2]
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(part, (*_ATOMS, Named, Record)) for part in parts):
            raise PickleDamageError("it has keys that are containers")
    return dict(zip(keys, flat[1::2], strict=True))


# By the names of pickletools: instructions whose argument is the value, others that stand for one, …
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS = ("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_PUSHED = frozenset(_NUMBERS + _TEXTS + _BYTES)
_CONSTANTS: Mapping[str, Any] = MappingProxyType({"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()})
_EMPTY: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": lambda: Record(Named("builtins.set"))}
)
_REMEMBERED = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_RECALLED = frozenset({"GET", "BINGET", "LONG_BINGET"})
_TUPLES: Mapping[str, int] = MappingProxyType({"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3})
_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
