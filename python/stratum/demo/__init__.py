"""The demonstrations: what an agent would send on real data, and how long it took.

Called by ``python -m stratum demo``. The modules that hold the pipelines (``flights``,
``uk_housing``, ``price_paid``, ``agent``) import neither stratum nor skrub nor each other: skrub,
or stratum in its place, is handed to them. So the very same code runs under plain skrub, in a
process that has never seen stratum (``plain.py``, started by path, for which this directory is on
the import path). Only ``run`` knows of both.
"""
