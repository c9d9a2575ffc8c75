"""The measurements: ``python -m bench`` from the root of the project.

Each row of a table is taken in a process of its own (``bench.child``), on either side the same
code, so that plain skrub never sees stratum and no side inherits the other's warm state. This
package and ``harness`` import neither; they stay small, since a child's peak memory starts from
its parent's.
"""
