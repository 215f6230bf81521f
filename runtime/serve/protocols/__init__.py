"""The interfaces that clients speak, one module each: a request becomes calls of a model, what they give an answer.

Hugging Face's tasks, OpenAI's embeddings, text-embeddings-inference, KServe's open inference protocol and the server's
own. Each exports `routes()`. Handlers raise; `wire.failures` says it in the protocol's form. May import
`runtime.serve.wire`, `runtime.serve`'s loose modules, and the wings below for names and types; nothing is computed
here.
"""
