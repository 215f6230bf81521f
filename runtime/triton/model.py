"""The class that Triton's Python backend looks for in a model's model.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import CxrEngineError, InputError, MissingExtraError
from runtime.triton.items import Item, Outcome, Task
from runtime.triton.settings import Settings
from runtime.triton.tasks import open_task

__all__ = ["TritonPythonModel"]

_SHOWN = 20
# Batches that fail one after the other for no fault of their items, after which the task is tried before it is said to
# be ready.
_FAILURES = 3


@dataclass(frozen=True)
class _Asked:
    """A request of the backend and its items; none where the caller left, or where they cannot be read."""

    request: Any
    items: tuple[Item, ...]
    fault: str = ""


class TritonPythonModel:
    """Any task of `runtime.triton.tasks`; Triton calls the methods, one at a time.

    What is wrong with an item is said to its own request alone, by its place there and without what it says; the other
    requests of the batch are answered.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open the bundle; Triton does not serve the model where this raises."""
        import triton_python_backend_utils as backend

        self._backend: Any = backend
        self._task: Task = open_task(Settings.read(args))
        self._failures = 0

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer the requests of a batch, in order."""
        asked = [self._asked(request) for request in requests]
        answers = self._answers(asked)
        return [self._response(each, answer) for each, answer in zip(asked, answers, strict=True)]

    def is_ready(self) -> bool:
        """Asked by Triton where it serves the model's readiness, since 26.06; later calls that fail are noticed."""
        if self._failures >= _FAILURES:
            try:
                self._task.check()
            except Exception as error:  # whatever it is, requests would meet it too
                self._backend.Logger.log_error(f"not ready: {type(error).__name__}")
                return False
            self._failures = 0
        return True

    def finalize(self) -> None:
        """Let go of the engine."""
        del self._task

    def _asked(self, request: Any) -> _Asked:
        if request.is_cancelled():
            return _Asked(request, ())
        columns = {}
        for name in self._task.inputs:
            tensor = self._backend.get_input_tensor_by_name(request, name)
            columns[name] = None if tensor is None else tensor.as_numpy()
        counts = {len(column) for column in columns.values() if column is not None}
        if len(counts) != 1:
            return _Asked(request, (), "The inputs have different numbers of items.")
        rows = range(counts.pop())
        return _Asked(
            request,
            tuple({name: None if each is None else each[row] for name, each in columns.items()} for row in rows),
        )

    def _answers(self, asked: Sequence[_Asked]) -> list[list[Outcome] | Exception]:
        """Outcomes of each request's items; computed request by request where they cannot be together."""
        items = [item for each in asked for item in each.items]
        try:
            found = iter(self._task.run(items) if items else [])
            answers: list[list[Outcome] | Exception] = [[next(found) for _ in each.items] for each in asked]
        except Exception as error:
            if len(asked) > 1:
                return [self._answers([each])[0] for each in asked]
            self._failures += 1
            # Errors on purpose say what to do; others may quote what they met.
            said = f": {error}" if isinstance(error, CxrEngineError) and not isinstance(error, InputError) else ""
            self._backend.Logger.log_error(f"a request failed, {type(error).__name__}{said}")
            return [error]
        self._failures = 0
        return answers

    def _response(self, asked: _Asked, answer: list[Outcome] | Exception) -> Any:
        error = self._backend.TritonError
        if isinstance(answer, Exception):
            # Others name files of the server.
            told = isinstance(answer, (InputError, MissingExtraError))
            return self._failed(str(answer) if told else "internal error", error.INTERNAL)
        if asked.fault:
            return self._failed(asked.fault, error.INVALID_ARG)
        if not answer:
            return self._failed("The caller left.", error.CANCELLED)
        bad = [f"[{index}] {each}" for index, each in enumerate(answer) if isinstance(each, str)]
        if bad:
            shown = "; ".join(bad[:_SHOWN]) + (f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else "")
            return self._failed(
                f"{len(bad)} of {len(answer)} {self._task.noun} cannot be used: {shown}", error.INVALID_ARG
            )
        outputs = self._task.stack([each for each in answer if not isinstance(each, str)])
        return self._backend.InferenceResponse([self._backend.Tensor(*each) for each in outputs.items()])

    def _failed(self, message: str, code: Any) -> Any:
        return self._backend.InferenceResponse(error=self._backend.TritonError(message, code))
