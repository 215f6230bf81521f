"""Pictures from strangers → pixels: bounded, off the event loop, in processes that may crash.

`decoder.Decoder` is what others use. DICOM's native decoders have had memory corruption found in them, and a file need
not be hostile to end them. So a picture is decoded in a process of its own: the server starts one fork server, which
has imported all that decoding takes and no engine, and which forks a child for each picture. The child can open no
file or socket, has bounded memory and time, sees no other picture, and answers in a framing of which nothing is ever
executed. PNG and JPEG files of up to 8 megapixels are decoded on threads of the server: see `quick`.

Imports `runtime.image`, `runtime.bundle`, `runtime.process` and what handlers of requests share. What the fork server
imports (`forkserver`, `work`, `answers`) imports no engine.
"""
