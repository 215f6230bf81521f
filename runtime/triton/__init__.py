"""Models of Triton's Python backend that run a bundle; `python -m export triton` writes repositories that name them.

Triton starts a process for each instance of a model, which calls `runtime.triton.model.TritonPythonModel`. What a model
does is one task of `tasks.TASKS`, named in its config.pbtxt. Imports `loading`, `tasks` and what lies below them;
Triton's own module, which is there in its processes alone, is imported when a model starts.
"""
