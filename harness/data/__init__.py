"""Text in, token files out.

corpus      open or prepare one: the only module the training loop needs
manifest    what a prepared corpus is, where it lies, and whether its files are what it says
create      run a source, write its splits and its manifest
tokens      documents -> tokens, several threads; the two encodings
build       tokens -> split files, resumable
stdlib_docs, text, hub_text, hub_tokens: one module a source

Shapes: every token array is one-dimensional, uint16; a document's start is an index into it.
Nothing here imports torch.
"""
