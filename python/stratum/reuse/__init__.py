"""Reuse: what was computed before is not computed again, within a process, between runs and processes.

`session` stands between an engine's runs and what is kept: the scheduler asks it for nodes before it asks for
their inputs, and offers it what was computed. `values` says what may be kept, how large it is, and writes it as
bytes; `settings` says what results depend on besides the graph. Keys are the engine's own: the meaning of a node.
"""
