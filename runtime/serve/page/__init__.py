"""The page at `/` for people: static files that ask the server's own interfaces, and the routes that serve them.

`assets` is what a browser loads, as it stands: there is no build step, no dependency, and no request leaves the host.
May import nothing of the server but `runtime.serve.request_errors`.
"""
