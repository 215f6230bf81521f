"""From the bytes of a request to checked values, and from values or failures to the bytes of an answer.

Nothing of a protocol stands here but the forms of its errors. Bodies are bounded while they are received, stay in
memory, and are never quoted. May import `runtime.serve`'s loose modules, and of the
wings below the errors and the names that their messages quote.
"""
