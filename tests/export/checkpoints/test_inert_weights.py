"""Checkpoints with Python objects beside their tensors: read as torch reads them, and nothing in them runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import pickletools
import random
import sys
import time
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from export.checkpoints.inert_pickle import Named, PickleDamageError, Record, read_pickle
from export.checkpoints.inert_weights import StoredTensor, read_inert
from export.errors import CheckpointError

FORMATS = pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "row of pickles"])
DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def save(content: object, path: Path, as_zip: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    return path


def tensors(found: Any) -> dict[str, StoredTensor]:
    return {name: value for name, value in found.items() if isinstance(value, StoredTensor)}


@FORMATS
def test_tensors_are_those_that_torch_reads(tmp_path: Path, as_zip: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, 5, 6, generator=generator) * 3
    state: dict[str, Any] = OrderedDict((str(dtype), values.to(dtype)) for dtype in DTYPES)
    state |= {
        "transposed": values.permute(2, 0, 1),
        "part": values[1:3, ::2, 3],
        "shared": values,
        "parameter": torch.nn.Parameter(values[0]),
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
    }
    path = save(state, tmp_path / "state.ckpt", as_zip)

    read = read_inert(path)
    found = read.tensors(tensors(read.content))

    expected = torch.load(path, weights_only=True)  # torch's own reader
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name
    found["shared"][0, 0, 0] = 100.0
    assert found["part"].max() < 100  # each has its own memory


class Settings(dict):
    """A mapping of a class of its own, as Lightning's AttributeDict is."""


def objects() -> dict[str, Any]:
    space = types.SimpleNamespace(layers=4, names=["a", "b"])
    return {
        "state_dict": {"weight": torch.arange(6.0).reshape(2, 3)},
        "hyper_parameters": Settings(lr=1e-4, space=space),
        "callbacks": {types.SimpleNamespace: {"best": None, "kept": {1, 2}}},
        "path": Path("a") / "b",
        "number": 10**30,
        "text": "Größe",
    }


@FORMATS
def test_other_objects_become_records(tmp_path: Path, as_zip: bool) -> None:
    path = save(objects(), tmp_path / "lightning.ckpt", as_zip)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)

    read = read_inert(path)

    content = read.content
    assert content["number"] == 10**30
    assert content["text"] == "Größe"
    assert torch.equal(read.tensors(content["state_dict"])["weight"], torch.arange(6.0).reshape(2, 3))
    settings = content["hyper_parameters"]
    assert isinstance(settings, Record)
    assert settings.made_by == Named(f"{Settings.__module__}.Settings")
    assert settings.items["lr"] == 1e-4
    assert settings.items["space"].state == {"layers": 4, "names": ["a", "b"]}
    assert isinstance(content["path"], Record)  # no path, which is a class that pathlib would make
    (callback,) = content["callbacks"].values()
    assert sorted(callback["kept"].arguments[0]) == [1, 2]


def test_every_protocol_is_followed() -> None:
    plain = {"a": [1, -2, 2.5, None, True, False, "x", b"y" * 300, "z" * 300, 1 << 70, ()], ("k", 1): {"n": [[[]]]}}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        if protocol < 3:  # bytes are no constant there
            plain["a"] = [each for each in plain["a"] if not isinstance(each, bytes)]
        shared = [plain, plain]
        found = read_pickle(io.BytesIO(pickle.dumps(shared, protocol)))
        assert found == shared
        assert found[0] is found[1]


class Attack:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._called = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._called


def attacks(trace: Path) -> dict[str, bytes]:
    """Pickles that leave a file `trace`, or take the machine, in a program that unpickles them."""
    command = f"touch {trace}"
    code = f"open({str(trace)!r}, 'w')"
    by_call = {
        "os.system": Attack(os.system, command),
        "eval": Attack(builtins.eval, code),
        "exec": Attack(builtins.exec, code),
        "open": Attack(builtins.open, str(trace), "w"),
        "getattr": Attack(getattr, Attack(__import__, "os"), "system"),
        "torch.load": Attack(torch.load, str(trace)),
        "run a string": Attack(torch._C._jit_pass_lint, code),
        "as a tensor": Attack(torch._utils._rebuild_tensor_v2, Attack(os.system, command), 0, (1,), (1,), False, {}),
    }
    mark = trace.as_posix().encode()
    by_hand = {
        "posix.system": b"cposix\nsystem\n(S'touch " + mark + b"'\ntR.",
        "inst": b"(S'touch " + mark + b"'\niposix\nsystem\n.",
        "obj": b"(cposix\nsystem\nS'touch " + mark + b"'\no.",
        "newobj": b"\x80\x02cposix\nsystem\nU\x05touch\x85\x81.",
        "build of a class": b"\x80\x02cbuiltins\nobject\n)\x81}X\x09\x00\x00\x00__class__cposix\nsystem\nsb.",
        "setstate": b"\x80\x02cos\n_wrap_close\n)\x81(dS'__setstate__'\ncposix\nsystem\nsbS'true'\nb.",
        "import": b"\x80\x02cantigravity\nfly\n.",
        "dotted": b"\x80\x04\x8c\x02os\x8c\x0bpath.exists\x93.",
    }
    return {name: pickle.dumps(each, 2) for name, each in by_call.items()} | by_hand


@pytest.mark.parametrize("name", [*attacks(Path("x"))])
def test_nothing_in_a_pickle_runs(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run or imported: what the pickle would call stays a name."""
    trace = tmp_path / "trace"
    attack = attacks(trace)[name]
    before = set(sys.modules)

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("run")

    with monkeypatch.context() as guarded:
        for module, function in ((os, "system"), (os, "popen"), (builtins, "eval"), (builtins, "exec")):
            guarded.setattr(module, function, forbidden)
        found = read_pickle(io.BytesIO(attack))
    assert isinstance(found, Record | Named)
    assert len(repr(found)) < 100
    assert not trace.exists()
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", ["os.system", "posix.system"])
def test_the_attacks_are_attacks(tmp_path: Path, name: str) -> None:
    """Negative control: Python's own unpickler runs them."""
    pickle.loads(attacks(tmp_path / "trace")[name])
    assert (tmp_path / "trace").exists()


@FORMATS
def test_a_checkpoint_with_an_attack_gives_its_weights(tmp_path: Path, as_zip: bool) -> None:
    trace = tmp_path / "trace"
    state = {"state_dict": {"weight": torch.ones(3)}, "hyper_parameters": Attack(os.system, f"touch {trace}")}
    read = read_inert(save(state, tmp_path / "attack.ckpt", as_zip))
    assert torch.equal(read.tensors(read.content["state_dict"])["weight"], torch.ones(3))
    assert not trace.exists()


def nested_key(levels: int) -> bytes:
    """A key of tuples in tuples: to hash it takes 2 ** levels steps."""
    return b"\x80\x02}N" + b"2\x86" * levels + b"Ns."


BOMBS = {
    "a memo of 2**31 places": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "text of 2**62 bytes": b"\x80\x04\x8d" + (1 << 62).to_bytes(8, "little") + b"x.",
    "bytes of 2**40": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.",
    "a key that takes for ever": nested_key(60),
    "a key that is a list": b"\x80\x02}]Ns.",
    "an extension": b"\x80\x02\x82\x01.",
    "a number of many digits": b"I" + b"9" * 100_000 + b"\n.",
    "nothing on the stack": b"\x80\x02R.",
    "two results": b"\x80\x02NN.",
    "no end": b"\x80\x02N",
    "no such place": b"\x80\x02h\x07.",
    "beyond the mark": b"\x80\x02N(R.",
    "a persistent id": b"\x80\x02X\x01\x00\x00\x00xQ.",
    "a text id": b"Pabc\n.",
    "an unknown instruction": b"\x80\x02\xff.",
    "a number that gets elements": b"\x80\x02K\x01K\x02a.",
}


@pytest.mark.parametrize("name", [name for name in BOMBS if name != "a memo of 2**31 places"])
def test_bombs_and_damage_end_soon(name: str) -> None:
    start = time.perf_counter()
    with pytest.raises(PickleDamageError, match=r"^it "):
        read_pickle(io.BytesIO(BOMBS[name]))
    assert time.perf_counter() - start < 1


def test_a_far_place_in_the_memo_takes_no_memory() -> None:
    assert read_pickle(io.BytesIO(BOMBS["a memo of 2**31 places"])) is None


def test_every_instruction_is_followed_or_refused_by_name() -> None:
    """None ends in an error of Python's."""
    followed = 0
    for opcode in pickletools.opcodes:
        argument = {"MARK": b""}.get(opcode.name, b"\x00" * 16)
        try:
            read_pickle(io.BytesIO(opcode.code.encode("latin-1") + argument))
        except PickleDamageError:
            followed += 1
    assert followed == len(pickletools.opcodes)


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with other entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def of(entries: dict[str, bytes], ending: str) -> str:
    return next(name for name in entries if name.endswith(ending))


def swap(old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        name = of(entries, "data.pkl")
        assert old in entries[name]
        entries[name] = entries[name].replace(old, new)

    return change


def shorten(entries: dict[str, bytes]) -> None:
    entries[of(entries, "data/0")] = b"\x00" * 4


def drop(entries: dict[str, bytes]) -> None:
    del entries[of(entries, "data/0")]


def endianness(entries: dict[str, bytes]) -> None:
    entries[of(entries, "byteorder")] = b"big"


# 7 × 9 values of which the size, then the stride, are told otherwise; K is a number of one byte, J of four.
LIES: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "a size beyond the values": (swap(b"K\x07K\x09\x86", b"K\x08K\x09\x86"), "reaches beyond its 63 values"),
    "a repetition": (
        swap(b"K\x07K\x09\x86q\x08K\x09K\x01\x86", b"J\xff\xff\xff\x7fK\x09\x86q\x08K\x00K\x01\x86"),
        "reaches beyond",
    ),
    "a negative stride": (swap(b"K\x09K\x01\x86", b"J\xff\xff\xff\xffK\x01\x86"), "whose shape is none"),
    "a stride too few": (swap(b"K\x09K\x01\x86", b"K\x09\x85"), "whose shape is none"),
    "a storage of another size": (swap(b"K?t", b"K@t"), "take 252 bytes"),
    "values cut short": (shorten, "take 4 bytes"),
    "values missing": (drop, "lacks the values 0"),
    "another machine": (endianness, "big-endian"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_about_sizes_are_found(tmp_path: Path, name: str) -> None:
    change, words = LIES[name]
    path = rewritten(save({"weight": torch.ones(7, 9)}, tmp_path / "lie.ckpt"), change)

    def read() -> None:
        found = read_inert(path)
        found.tensors(tensors(found.content))

    with pytest.raises(CheckpointError, match=words):
        read()


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    """A few kilobytes could become gigabytes."""
    path = save({"weight": torch.zeros(1 << 20)}, tmp_path / "bomb.ckpt")
    rewritten(path, lambda _: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="are compressed"):
        read_inert(path)


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    path = save({"weight": torch.zeros(1 << 16), "bias": torch.zeros(1 << 16)}, tmp_path / "bomb.ckpt")
    data = bytearray(path.read_bytes())
    # Both entries' values at the place of the first; with it the end of the list moves to the front of the second.
    with zipfile.ZipFile(path) as archive:
        first, second = (archive.getinfo(name) for name in archive.namelist() if "/data/" in name)
    short = bytes(data[: second.header_offset])
    directory = bytes(data[data.index(b"PK\x01\x02") :])
    moved = directory.replace(second.header_offset.to_bytes(4, "little"), first.header_offset.to_bytes(4, "little"))
    start = directory.index(b"PK\x05\x06")
    moved = moved[:start] + moved[start : start + 16] + len(short).to_bytes(4, "little") + moved[start + 20 :]
    path.write_bytes(short + moved)
    with pytest.raises(CheckpointError, match=r"overlap|damaged"):
        read_inert(path)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
@FORMATS
def test_files_cut_short_are_refused(tmp_path: Path, as_zip: bool, keep: float) -> None:
    path = save({"weight": torch.ones(300), "other": torch.ones(300)}, tmp_path / "cut.ckpt", as_zip)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError, match=r"damaged|cut short"):
        read_inert(path)


def test_a_pickle_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    path.write_bytes(pickle.dumps({"weight": [1.0]}, 2))
    with pytest.raises(CheckpointError, match=r"no file of torch\.save"):
        read_inert(path)


def test_complex_tensors_are_no_tensors(tmp_path: Path) -> None:
    """No checkpoint that is read so has them."""
    state = {"weight": torch.ones(3, dtype=torch.complex64), "bias": torch.ones(1)}
    assert list(tensors(read_inert(save(state, tmp_path / "complex.ckpt")).content)) == ["bias"]


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        place = rng.randrange(len(changed))
        kind = rng.randrange(3)
        if kind == 0:
            changed[place] = rng.randrange(256)
        elif kind == 1:
            del changed[place : place + rng.randrange(1, 9)]
        else:
            changed[place:place] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5)))
    return bytes(changed)


@FORMATS
def test_damaged_anywhere_it_is_refused_or_read(tmp_path: Path, as_zip: bool) -> None:
    """Nothing but CheckpointError comes out. Of 8,000 such files a Unicode error of zipfile's did, and a
    NotImplementedError, from entries whose names or versions are damaged."""
    rng = random.Random(5)
    data = save(objects(), tmp_path / "whole.ckpt", as_zip).read_bytes()
    path, refused = tmp_path / "damaged.ckpt", 0
    central = data.index(b"PK\x01\x02") if as_zip else 0
    special = [data[: central + 6] + b"\xe1" + data[central + 7 :]] if as_zip else []
    for changed in [*special, *(mutated(data, rng) for _ in range(250))]:
        path.write_bytes(changed)
        try:
            read = read_inert(path)
            state = read.content.get("state_dict") if isinstance(read.content, dict) else None
            read.tensors(tensors(state) if isinstance(state, dict) else {})
        except CheckpointError:
            refused += 1
    assert refused > 100
