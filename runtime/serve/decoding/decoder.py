"""Encoded pictures → pixels, for handlers of requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence

from PIL import Image

from runtime.bundle.parts import Preprocessing
from runtime.engines.cores import find_cores
from runtime.errors import Fault, InputError
from runtime.image.bounds import Bounds
from runtime.image.dicom_options import DicomOptions
from runtime.image.images import Pixels
from runtime.process.notices import Notice
from runtime.serve.caller import Caller
from runtime.serve.decoding.answers import PICTURE, PIXELS, Answer
from runtime.serve.decoding.children import Children, UnavailableError
from runtime.serve.decoding.line import Job, Line
from runtime.serve.decoding.orders import Orders
from runtime.serve.decoding.quick import is_quick
from runtime.serve.decoding.work import ACCEPTED, Work
from runtime.serve.limits import Limits
from runtime.serve.request_errors import RequestError

__all__ = ["Decoder", "default_processes"]

_NAME = "image"
# The engine has the others.
_CORES_A_PICTURE = 2
# Of a picture, beyond the fork server's own; JPEG 2000 in colours takes 32 bytes a pixel, the most of all kinds.
_BYTES_OF_A_PIXEL, _BYTES = 40, 256 << 20
# Until pictures were decoded, one is taken to take so many seconds; later ones count so much.
_FIRST_SECONDS, _WEIGHT = 0.05, 0.1


def default_processes() -> int:
    """How many pictures to decode at a time: one for every two cores; 0 where children cannot be forked."""
    return max(1, find_cores().most // _CORES_A_PICTURE) if hasattr(os, "fork") else 0


class Decoder:
    """Decodes what clients send: PNG, JPEG and DICOM, within bounds; see the package.

    Its coroutines belong to one event loop; nothing is decoded on it.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        dicom: DicomOptions,
        limits: Limits,
        *,
        processes: int,
        fast_decode: bool = False,
        seconds: float = 10.0,
    ) -> None:
        """Start nothing yet.

        Args:
            preprocessing: of the bundle.
            dicom: how DICOM files are read.
            limits: of the server.
            processes: pictures decoded at a time, each in a process of its own unless it is quick. 0 decodes all of
                them on threads: for Windows, which forks no processes, and where they cannot be started. A picture
                that crashes a decoder then ends the server, and one that takes long cannot be stopped.
            fast_decode: see `runtime.load`.
            seconds: that a picture may take in its process.

        Raises:
            InputError: processes were asked for where they cannot be forked.
        """
        if processes and not hasattr(os, "fork"):
            raise InputError(f"{processes} processes for decoding were asked for, but this system forks none. Give 0.")
        self._work = Work(preprocessing, dicom, Bounds(limits.pixels, ACCEPTED), fast_decode)
        memory = _BYTES + _BYTES_OF_A_PIXEL * limits.pixels + 2 * limits.image_bytes
        self._children = Children(Orders(self._work, seconds, memory), processes) if processes else None
        self._limits, self._seconds = limits, seconds
        self._is_quick = is_quick
        self._line = Line()
        self._threads = [
            threading.Thread(target=self._run, name=f"cxr-decoder-{number}", daemon=True)
            for number in range(processes or max(1, find_cores().most // _CORES_A_PICTURE))
        ]
        self._mean_seconds = _FIRST_SECONDS
        self._closed = False

    def start(self) -> None:
        """Start threads and processes, which takes half a second.

        Raises:
            InputError: processes cannot be started here.
        """
        if self._children is not None:
            self._children.start()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End them. Who still waits is told that the server stops; what was begun is finished."""
        self._closed = True
        for job in self._line.close():
            _tell(job, None, _stopping())
        begun = [thread for thread in self._threads if thread.is_alive()]
        end = time.monotonic() + self._seconds
        for thread in begun:
            thread.join(max(0.0, end - time.monotonic()))
        if self._children is not None:
            self._children.close()
        for thread in begun:
            thread.join()

    def alive(self) -> bool:
        """Whether pictures are decoded: False once closed, and while processes cannot be started any more."""
        if self._closed or not all(thread.is_alive() for thread in self._threads):
            return False
        return self._children is None or self._children.alive

    @property
    def waiting(self) -> int:
        """Pictures whose turn has not come."""
        return len(self._line)

    @property
    def crashes(self) -> int:
        """Pictures that crashed their process or took too long in it, so far."""
        return 0 if self._children is None else self._children.crashes

    @property
    def fork_server(self) -> int | None:
        """The process whose children decode; None where threads do."""
        return None if self._children is None else self._children.process

    async def decode(
        self,
        images: Sequence[bytes],
        caller: Caller,
        on_notice: Callable[[int, Sequence[Notice]], None] | None = None,
    ) -> list[Pixels]:
        """Decode pictures into what the graph reads, in their order: the bytes of `runtime.image.images.load_pixels`.

        Args:
            images: encoded PNG, JPEG or DICOM files.
            caller: who asks. Pictures are not begun once it is gone, and its `timings.decoding` is added to.
            on_notice: called with the position of a picture in which something was unusual, and what.

        Raises:
            InputError: pictures that cannot be used, every one of them in `faults`.
            RequestError: too many wait (429), the deadline passed or the client left (504), the server stops (503).
        """
        answers = await self._answers(PIXELS, images, caller)
        faults = [Fault(index, _NAME, each.reason) for index, each in enumerate(answers) if each.reason is not None]
        if faults:
            raise InputError.from_faults("images", faults, len(images))
        for index, each in enumerate(answers):
            if each.notices and on_notice is not None:
                on_notice(index, each.notices)
        return [each.pixels for each in answers if each.pixels is not None]

    async def picture(self, image: bytes, caller: Caller | None = None) -> Image.Image:
        """A picture at its full size as the system sees it, to be drawn on: see `runtime.image.images.read_picture`.

        Raises:
            InputError: as `decode`.
            RequestError: as `decode`.
        """
        (answer,) = await self._answers(PICTURE, [image], caller or Caller())
        if answer.picture is None:
            raise InputError.from_faults("images", [Fault(0, _NAME, str(answer.reason))], 1)
        return answer.picture

    async def _answers(self, kind: bytes, images: Sequence[bytes], caller: Caller) -> list[Answer]:
        caller.check()
        self._admit(len(images))
        jobs = [Job(kind, image, caller) for image in images]
        if not jobs:
            return []
        self._line.put(jobs)
        if self._closed:  # meanwhile
            for job in self._line.close():
                _tell(job, None, _stopping())
        try:
            await asyncio.wait([job.answer for job in jobs], timeout=caller.remaining())
            errors = [error for job in jobs if job.answer.done() and (error := job.answer.exception())]
            caller.check()
            if errors:
                raise errors[0]
            answers = [job.answer.result() for job in jobs if job.answer.done()]
        finally:
            for job in jobs:
                job.dropped = True
                job.answer.cancel()
            caller.timings.decoding += sum(job.seconds for job in jobs)
        found = [answer for answer in answers if answer is not None]
        if len(found) < len(jobs):
            raise RequestError("Timeout", "The images were not decoded: nobody waited for them any more.")
        return found

    def _admit(self, count: int) -> None:
        """Raise where others' pictures would take too long."""
        if self._closed:
            raise _stopping()
        waiting = len(self._line)
        seconds = waiting * self._mean_seconds / len(self._threads)
        if waiting + count > self._limits.queue_items or seconds > self._limits.wait_seconds:
            raise RequestError("Overloaded", "Too many images wait to be decoded. Come again later.", max(1.0, seconds))

    def _run(self) -> None:
        while (job := self._line.take()) is not None:
            if not job.wanted:
                _tell(job, None)
                continue
            begun = time.perf_counter()
            try:
                if self._children is None or self._is_quick(job.image):
                    answer = self._work(job.kind, job.image)
                else:
                    answer = self._children.run(job.kind, job.image, self._work.expected(job.kind))
            except UnavailableError:
                _tell(job, None, _stopping() if self._closed else _unable())
                continue
            except BaseException as error:  # who waits must not wait for ever
                _tell(job, None, error)
                continue
            job.seconds = time.perf_counter() - begun
            self._mean_seconds += _WEIGHT * (job.seconds - self._mean_seconds)
            _tell(job, answer)


def _tell(job: Job, answer: Answer | None, error: BaseException | None = None) -> None:
    """Hand a job's answer to the event loop of who waits for it, which may be closed."""

    def tell() -> None:
        if job.answer.done():
            return
        if error is None:
            job.answer.set_result(answer)
        else:
            job.answer.set_exception(error)

    with contextlib.suppress(RuntimeError):
        job.answer.get_loop().call_soon_threadsafe(tell)


def _stopping() -> RequestError:
    return RequestError("Unhealthy", "The server stops.")


def _unable() -> RequestError:
    return RequestError("Unhealthy", "Images cannot be decoded at the moment. Come again later.", retry_after=1.0)
