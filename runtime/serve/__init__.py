"""The server: `python -m runtime serve BUNDLE`; needs the extra `serve`.

One process, one engine for each bundle. Requests of different callers share batches: `scheduling` decides which texts
and images are computed together and in which order, `protocols` are the interfaces that clients speak, `operation` is
what keeps a server up, `page` is for people. Imports every other wing but
`runtime.commands`.
"""
