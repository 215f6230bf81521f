"""The load client: HTTP/1.1 over raw sockets, closed and open loop, in a process of its own.

`client` is the measuring process's end of it, `worker` the other. Only the worker's process sends; it looks at no
answer, since the server needs the processor: answers are kept and judged afterwards.
"""
