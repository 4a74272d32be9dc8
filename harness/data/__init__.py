"""Text in, token files out.

manifest    what a prepared corpus is, and where it lies
corpus      open or prepare one: the only module the training loop needs
again       the command that prepares one, for messages
tokens      documents -> tokens, several threads
build       tokens -> split files, resumable
verify      are the files what the manifest says?
tokenizer   the two encodings
stdlib_docs, text, hub, hub_tokens: one module a source

Shapes: every token array is one-dimensional, uint16; a document's start is an index into it.
Nothing here imports torch.
"""
