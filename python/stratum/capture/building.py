"""Make *building* skrub DataOps cost the same at every step.

What it is for
    Each time a DataOp is created, skrub checks the whole graph below it three
    times (conflicting names and marks, raw dataframes, choices before X or y),
    tries a preview that walks down to the first variable without a value, and
    records the creation stack through :mod:`traceback`.  Building is therefore
    quadratic.  CPU time of one more step on a chain without a value, skrub 0.11
    on Python 3.11, without and with this module (two shared cores):

    ==============  ===================  ===================  ===================
    step            after 200 nodes      after 2,000          after 20,000
    ==============  ===================  ===================  ===================
    ``x + 1``       14 ms    -> 36 us    250 ms   -> 38 us    2.3 s    -> 36 us
    ``f(x)``        68 ms    -> 37 us    510 ms   -> 36 us    5.8 s    -> 52 us
    ``x["a"]``      16 ms    -> 36 us    180 ms   -> 33 us    2.0 s    -> 41 us
    ==============  ===================  ===================  ===================

    These are single steps; a whole chain of 10,000 takes 15 to 23 us a node with
    a value, if no full pass of the garbage collector falls into it (0.1 s with
    everything imported).  So that they are rare, a node is no more than four
    objects for the collector (a call five): the DataOp, its implementation,
    that one's metadata, our entry.
    With the checks off (``eager_data_ops=False``) a node costs 0.3 to 0.5 ms in
    skrub, nearly all of it the creation stack, and 7 to 13 us here.

Who may call it
    ``stratum/__init__`` calls :func:`install`; the preview code of the adapter
    uses :func:`preview_known_missing` and :func:`note_missing`.  Nobody else
    needs it.

How it works
    Functions of skrub are replaced, never its classes, and nothing is stored
    on its objects (they are pickled and cloned).  A side table, keyed weakly by
    DataOp, holds a summary of everything below it.  The summary of a new node
    follows from its own fields and from the summaries of its children; when it
    adds nothing it *is* the child's summary.

    A summary never decides that something is wrong.  It can only prove that
    nothing is; whenever it cannot, skrub's own function is called, so errors,
    messages and warnings are skrub's.

What a summary holds
    One bit for each object that could take part in a conflict: a node with a
    name, a named choice, the X node, the y node, a scoring node.  Python
    integers are used as bit sets because the union of two of them costs a
    machine word for 30 members: 20,000 named variables added one by one need
    52 MB of them; as Python sets, at 64 bytes a member, it would be 12 GB.

    Two nodes share a ``uuid`` only if one is a copy of the other (``mark_as_X``,
    ``set_name``, clones, unpickled graphs).  The first node seen with a uuid
    needs no bit.  Later ones get one, their *cohort*, and only a node that joins
    a cohort with something else has to prove that two members have not met.

The one limit
    Objects that were changed in place after the node holding them was checked
    (a list to which a choice was appended, ``estimator.set_params``) are looked
    at again only by nodes that hold them directly; skrub would look again at
    each later step.  Seeing such changes means reading every container of the
    graph at every step, which is the cost this module removes.
"""

from __future__ import annotations

import collections
import functools
import itertools
import linecache
import os
import pathlib
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

# ---------------------------------------------------------------------------
# Everything that depends on the version of skrub (0.11) is named here.
# ---------------------------------------------------------------------------
from sklearn.base import BaseEstimator
from skrub import _dataframe as _sbd
from skrub._data_ops import _data_ops as _host_nodes
from skrub._data_ops import _evaluation as _host_eval
from skrub._data_ops import _skrub_namespace as _host_namespace
from skrub._data_ops._utils import Sentinels as _HostSentinels

_DataOp = _host_nodes.DataOp
_DataOpImpl = _host_nodes.DataOpImpl
_UninitializedVariable = _host_nodes.UninitializedVariable
_Var = _host_nodes.Var
_Scoring = _host_nodes.Scoring
_Apply = _host_nodes.Apply
_GetItem = _host_nodes.GetItem
_NULL = _host_nodes.NULL
# A dataframe below these nodes is not an error.
_DATAFRAME_HOLDERS = (_host_nodes.Var, _host_nodes.Value)
# These bring a bit or hide one, whatever their fields hold.
_BRINGS = (*_DATAFRAME_HOLDERS, _Scoring)
# Node types with their own `eval()`: the field it evaluates first, as a
# function of nothing but the type.  (Apply is dealt with on its own.)
_FIRST_FIELD = {
    _host_nodes.IfElse: "condition",
    _host_nodes.Match: "query",
    _host_nodes.FreezeAfterFit: "target",
    _host_nodes.SplitX: "X",
    _host_nodes.Scoring: "pred",
}
# The `__init__` that skrub makes for every node type.
_HOST_INIT_QUALNAME = "DataOpImpl.__init_subclass__.<locals>.__init__"
# The generator loop and the leaf of an evaluation, to recognise where an
# UninitializedVariable comes from.
_RUN_CODES = {_host_eval._DataOpTraversal.run.__code__}
_HOST_VAR_COMPUTE_CODE = _host_nodes.Var.compute.__code__
_HOST_FOLDER = pathlib.Path(_host_nodes.__file__).parent
_host_display_name = _host_eval._choosing.get_display_name
# ---------------------------------------------------------------------------

__all__ = [
    "children",
    "install",
    "installed",
    "may_hold_choice",
    "note_missing",
    "preview_known_missing",
    "table_sizes",
    "uninstall",
]

# Types whose instances can neither be nor contain a DataOp, a choice, an
# estimator or a dataframe.  Compared with `type(x) in`, so no subclass passes.
_PLAIN = frozenset(
    {
        str,
        int,
        float,
        bool,
        complex,
        bytes,
        type(None),
        type,
        range,
        types.FunctionType,
        types.BuiltinFunctionType,
        types.ModuleType,
        np.ndarray,
        np.float64,
        np.int64,
        np.bool_,
        _HostSentinels,
    }
)

# Flags of a summary.
_HAS_CHOICE = 1  # a choice is reachable
_XY_CHOICE = 2  # a choice is reachable from a reachable X or y node
_DATAFRAME = 4  # a raw dataframe is reachable

# More families than this to be proved for one node: skrub's single walk over
# the graph is cheaper than one pruned walk for each.
_MAX_PROOFS = 8
# A graph without summaries (built with the checks off, cloned, unpickled) of
# up to this many nodes is checked node by node; a larger one by skrub, once.
_MAX_BY_NODE = 64


class _Summary:
    """What is reachable from a node: a bit set and flags.  Never changed."""

    __slots__ = ("flags", "mask")

    def __init__(self, mask: int, flags: int) -> None:
        self.mask = mask
        self.flags = flags


_EMPTY = _Summary(0, 0)

# Things that died and have still to be removed from the tables.  Weak
# references and finalizers run at any allocation, also inside the locked
# regions, so all they do there is to append here.
_dead: collections.deque[Any] = collections.deque()


class _Slot:
    """One bit of the bit sets.

    Held by the entry of the node that brings the object into the graph, and
    entries hold their children's: the bit is free for reuse only once no
    summary can contain it.
    """

    __slots__ = ("bit", "index", "keys")

    def __init__(self, index: int, keys: tuple[Any, ...]) -> None:
        self.index = index
        self.bit = 1 << index
        self.keys = keys

    def __del__(self, _append: Callable[[Any], None] = _dead.append) -> None:
        _append((self.index, self.keys))


class _Cohort:
    """Copies that share one bit.

    A copy that came alone has a cohort of its own, and `family` is set: its bit
    says exactly which node is reachable.  The copies in a large graph that came
    at once share one cohort, whose bit only says that some of them are.
    """

    __slots__ = ("__weakref__", "family", "risky", "slot")

    def __init__(self, slot: _Slot) -> None:
        self.slot = slot
        self.family: _Family | None = None
        # members whose family has another live member
        self.risky = 0


class _Family:
    """The nodes, two at least, that share one uuid."""

    __slots__ = ("first", "members", "reached")

    def __init__(self, first: _Entry) -> None:
        self.members: dict[int, _Entry] = {first.serial: first}
        self.first = first.serial
        # serial of a node -> serial of the member below it, or 0
        self.reached: dict[int, int] = {}


class _Entry(weakref.ref):
    """Weak reference to a DataOp with what is known about it."""

    __slots__ = (
        "cohort",
        "has_choices",
        "key",
        "kids",
        "missing",
        "serial",
        "slots",
        "summary",
        "uuid",
    )

    key: int
    serial: int
    summary: _Summary
    kids: _Entry | tuple[_Entry, ...]  # alone, where there is one: an object less for each node
    slots: tuple[_Slot, ...]
    uuid: int | None
    cohort: _Cohort | None
    has_choices: bool
    missing: str | None


def _kids(entry: _Entry) -> tuple[_Entry, ...]:
    kids = entry.kids
    return kids if type(kids) is tuple else (kids,)


class _ChoiceRef(weakref.ref):
    """Weak reference to a named choice with its bit."""

    __slots__ = ("key", "slot")

    key: int
    slot: _Slot


class _Contents:
    """What the fields of one node hold, not looking below its children."""

    __slots__ = ("choices", "dataframe", "kids")

    def __init__(self) -> None:
        self.kids: list[Any] = []
        self.choices: list[Any] = []
        self.dataframe = False


# The lock is reentrant, and `_busy` tells re-entry from entry: a signal handler
# or a finalizer that builds DataOps can run inside the locked regions.
_lock = threading.RLock()
_busy = False
_entries: dict[int, _Entry] = {}
_choice_refs: dict[int, _ChoiceRef] = {}
_by_uuid: dict[int, _Entry | _Family] = {}
_groups: dict[Any, int] = {}
_slot_keys: list[tuple[Any, ...]] = []
_slot_cohorts: dict[int, weakref.ref[_Cohort]] = {}
_free: list[int] = []
# Bits of the cohorts that have a live relative, the only ones to need proof:
# those of one copy, and those of many.
_risky_one = 0
_risky_many = 0
_serials = itertools.count(1)
# The serial of the node that was last found to be without conflicts: the checks that follow at once
# need not ask again whether they are wanted.
_fresh = 0


def _after_fork() -> None:
    # Another thread of the parent may have held the lock, halfway through a
    # change: start with empty tables, which costs one walk over each graph.
    global _lock, _busy, _risky_one, _risky_many
    _lock = threading.RLock()
    _busy = True
    for table in (_entries, _choice_refs, _by_uuid, _groups, _slot_cohorts):
        table.clear()
    _slot_keys.clear()
    _free.clear()
    _dead.clear()
    _risky_one = _risky_many = 0
    _busy = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _on_death(ref: Any) -> None:
    if _dead is None:  # the interpreter ends, and has emptied this module: nobody reads the tables any more
        return
    _dead.append(ref)
    # Nobody may come by later to clear the tables, so do it if one can.
    if _lock.acquire(blocking=False):
        try:
            if not _busy:
                _bury()
        finally:
            _lock.release()


def _bury() -> None:
    """Remove the dead from the tables; the lock is held."""
    global _busy, _risky_one, _risky_many
    _busy = True
    try:
        while _dead:
            item = _dead.popleft()
            if type(item) is _Entry:
                if _entries.get(item.key) is item:
                    del _entries[item.key]
                _leave_family(item)
            elif type(item) is _ChoiceRef:
                if _choice_refs.get(item.key) is item:
                    del _choice_refs[item.key]
            else:
                index, keys = item
                bit = 1 << index
                for key in keys:
                    left = _groups[key] & ~bit
                    if left:
                        _groups[key] = left
                    else:
                        del _groups[key]
                _slot_keys[index] = ()
                _slot_cohorts.pop(index, None)
                _risky_one &= ~bit
                _risky_many &= ~bit
                _free.append(index)
    finally:
        _busy = False


# ---------------------------------------------------------------------------
# Families
# ---------------------------------------------------------------------------


def _set_risk(cohort: _Cohort | None, change: int) -> None:
    global _risky_one, _risky_many
    if cohort is None:
        return
    cohort.risky += change
    bit = cohort.slot.bit
    if cohort.family is None:
        _risky_many = _risky_many | bit if cohort.risky else _risky_many & ~bit
    else:
        _risky_one = _risky_one | bit if cohort.risky else _risky_one & ~bit


def _relatives_of(data_op: Any, uuid: int | None) -> _Entry | _Family | None:
    """What is registered for `uuid`, not counting `data_op` and the dead."""
    if uuid is None:
        return None
    found = _by_uuid.get(uuid)
    if type(found) is _Entry and found() is None:
        _leave_family(found)
        return None
    return found


def _join_family(entry: _Entry, shared: _Cohort | None) -> None:
    """Register a new entry under its uuid, and give it a cohort if it's a copy."""
    if entry.uuid is None:
        return
    found = _by_uuid.get(entry.uuid)
    if found is None:
        _by_uuid[entry.uuid] = entry
        return
    if type(found) is _Entry:
        family = _by_uuid[entry.uuid] = _Family(found)
        if found.cohort is not None:
            # itself a copy, of a node that is gone
            if found.cohort.family is not None:
                found.cohort.family = family
            _set_risk(found.cohort, 1)
    else:
        family = found
    family.members[entry.serial] = entry
    if shared is None:
        shared = _new_cohort()
        shared.family = family
    entry.cohort = shared
    _set_risk(shared, 1)


def _leave_family(entry: _Entry) -> None:
    if entry.uuid is None:
        return
    found = _by_uuid.get(entry.uuid)
    if found is entry:
        del _by_uuid[entry.uuid]
        return
    if type(found) is not _Family or found.members.get(entry.serial) is not entry:
        return
    del found.members[entry.serial]
    _set_risk(entry.cohort, -1)
    if len(found.members) == 1:
        (relative,) = found.members.values()
        # Copies keep their family: do not let it keep one in turn.
        found.members.clear()
        found.reached.clear()
        _set_risk(relative.cohort, -1)
        _by_uuid[entry.uuid] = relative


def _reach(start: _Entry, family: _Family) -> int:
    """Serial of the member of `family` reachable from `start`, or 0.

    There is at most one, as `start` has been checked.  Children are entered
    before their parents, so nothing older than the first member needs to be
    looked at, and each node is looked at once for a family.
    """
    first, members, reached = family.first, family.members, family.reached
    if start.serial < first:
        return 0
    if len(reached) > 4096 and len(reached) > 2 * len(_entries):
        reached.clear()
    stack = [start]
    while stack:
        entry = stack[-1]
        serial = entry.serial
        if serial in reached:
            stack.pop()
            continue
        if serial in members:
            reached[serial] = serial
            stack.pop()
            continue
        found = 0
        ready = True
        for kid in _kids(entry):
            if kid.serial < first:
                continue
            below = reached.get(kid.serial)
            if below is None:
                stack.append(kid)
                ready = False
            elif below:
                found = below
        if ready:
            reached[serial] = found
            stack.pop()
    return reached[start.serial]


def _below(start: _Entry, target: _Entry) -> bool:
    """Whether `target` is reachable from `start`."""
    seen: set[int] = set()
    stack = [start]
    while stack:
        entry = stack.pop()
        if entry.serial < target.serial or entry.serial in seen:
            continue
        if entry is target:
            return True
        seen.add(entry.serial)
        stack.extend(_kids(entry))
    return False


def _may_meet(
    kids: list[_Entry], mask: int, differ: bool, relatives: _Entry | _Family | None
) -> bool:
    """Whether two nodes with the same uuid may be below (or be) a new node.

    Parameters
    ----------
    kids : list of entries
        The children of the new node, without repetitions.
    mask : int
        The bits of all of them.
    differ : bool
        Whether they have different bits.
    relatives : entry, family or None
        What is registered for the uuid of the new node.
    """
    if len(kids) > 1:
        # The bit of a large cohort does not say which copies are reachable:
        # equal bits prove nothing.
        if mask & _risky_many:
            return True
        if differ and (risky := mask & _risky_one):
            if risky.bit_count() > _MAX_PROOFS:
                return True
            while risky:
                low = risky & -risky
                risky ^= low
                cohort = _slot_cohorts[low.bit_length() - 1]()
                if cohort is None or cohort.family is None:
                    return True
                met = {_reach(kid, cohort.family) for kid in kids}
                met.discard(0)
                if len(met) > 1:
                    return True
    if relatives is None:
        return False
    # The new node is a copy itself: no relative may be below it.
    if type(relatives) is _Family:
        return any(_reach(kid, relatives) for kid in kids)
    return any(_below(kid, relatives) for kid in kids)


# ---------------------------------------------------------------------------
# Bits
# ---------------------------------------------------------------------------


def _new_slot(keys: tuple[Any, ...]) -> _Slot:
    if _free:
        index = _free.pop()
        _slot_keys[index] = keys
    else:
        index = len(_slot_keys)
        _slot_keys.append(keys)
    slot = _Slot(index, keys)
    for key in keys:
        _groups[key] = _groups.get(key, 0) | slot.bit
    return slot


def _new_cohort() -> _Cohort:
    cohort = _Cohort(_new_slot(()))
    _slot_cohorts[cohort.slot.index] = weakref.ref(cohort)
    return cohort


def _choice_slot(choice: Any) -> _Slot | None:
    """The bit of a choice; None if it has no name and cannot conflict."""
    name = getattr(choice, "name", None)
    if name is None:
        return None
    keys = (("name", name),)
    ref = _choice_refs.get(id(choice))
    if ref is not None and ref() is choice and ref.slot.keys == keys:
        return ref.slot
    ref = _ChoiceRef(choice, _on_death)
    ref.key = id(choice)
    ref.slot = _new_slot(keys)
    _choice_refs[id(choice)] = ref
    return ref.slot


def _clash(mask: int, new: int) -> bool:
    """Whether an object of `new` shares a key with one of `mask` (disjoint)."""
    while new:
        low = new & -new
        new ^= low
        for key in _slot_keys[low.bit_length() - 1]:
            if _groups[key] & mask:
                return True
    return False


def _own_keys(impl: Any) -> tuple[Any, ...]:
    keys: list[Any] = []
    if impl.name is not None:
        keys.append(("name", impl.name))
    if impl.is_X:
        keys.append("X")
    if impl.is_y:
        keys.append("y")
    if isinstance(impl, _Scoring):
        keys.append("score")
    return tuple(keys)


# ---------------------------------------------------------------------------
# Reading one node
# ---------------------------------------------------------------------------


class _OwnFields(_host_eval._DataOpTraversal):
    """skrub's traversal, of one node, stopping at the node's children.

    For fields that hold anything but plain values and flat containers: on its
    way the traversal clones estimators and rebuilds containers, and fails if
    that fails, so the same code has to run here.
    """

    def __init__(self, root: Any, contents: _Contents) -> None:
        self.root = root
        self.contents = contents

    def handle_data_op(self, data_op: Any) -> Any:
        if data_op is not self.root:
            self.contents.kids.append(data_op)
            return data_op
        return (yield from super().handle_data_op(data_op))

    def handle_choice(self, choice: Any) -> Any:
        self.contents.choices.append(choice)
        return (yield from super().handle_choice(choice))

    def handle_value(self, value: Any) -> Any:
        if type(value) not in _PLAIN and _sbd.is_dataframe(value):
            self.contents.dataframe = True
        return (yield from super().handle_value(value))


def _read(data_op: Any) -> _Contents:
    """The children and choices of one node, and whether it holds a dataframe."""
    impl = data_op._skrub_impl
    contents = _Contents()
    kids = contents.kids
    for name in impl._fields:
        value = getattr(impl, name)
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is _DataOp:
            kids.append(value)
            continue
        if kind is tuple or kind is list:
            items: Any = value
        elif kind is dict:
            items = value.values()
        else:
            break
        for item in items:
            kind = type(item)
            if kind in _PLAIN:
                continue
            if kind is not _DataOp:
                break
            kids.append(item)
        else:
            continue
        break
    else:
        return contents
    contents = _Contents()
    _OwnFields(data_op, contents).run(data_op)
    return contents


def _entry_of(data_op: Any) -> _Entry | None:
    entry = _entries.get(id(data_op))
    if entry is not None and entry() is data_op:
        return entry
    return None


def _unknown(data_op: Any) -> list[tuple[Any, _Contents]]:
    """The nodes without an entry, from `data_op` down, children first."""
    order: list[tuple[Any, _Contents]] = []
    contents = _read(data_op)
    if all(_entry_of(kid) is not None for kid in contents.kids):
        # nearly always
        return [(data_op, contents)]
    seen = {id(data_op)}
    stack = [(data_op, contents, iter(contents.kids))]
    while stack:
        node, contents, kids = stack[-1]
        for kid in kids:
            if id(kid) not in seen and _entry_of(kid) is None:
                seen.add(id(kid))
                below = _read(kid)
                stack.append((kid, below, iter(below.kids)))
                break
        else:
            stack.pop()
            order.append((node, contents))
    return order


# ---------------------------------------------------------------------------
# Summaries
# ---------------------------------------------------------------------------


def _enter(
    data_op: Any, contents: _Contents, shared: _Cohort | None, *, check: bool
) -> bool:
    """Add a node to the table; the lock is held.

    Parameters
    ----------
    data_op : DataOp
        A node without an entry.
    contents : _Contents
        What `_read` says of it.
    shared : _Cohort or None
        The cohort to use if the node is a copy; None for one of its own.
    check : bool
        Whether to require proof that there is no conflict.

    Returns
    -------
    bool
        Whether it was added.  It is not if there is no proof, or if a child
        has no entry (the graph has a cycle).
    """
    impl = data_op._skrub_impl
    # What the children bring.
    kids: list[_Entry] = []
    seen: set[int] = set()
    mask = flags = 0
    differ = False
    summary = _EMPTY
    for child in contents.kids:
        kid = _entry_of(child)
        if kid is None:
            return False
        if kid.serial in seen:
            continue
        seen.add(kid.serial)
        other = kid.summary
        if not kids:
            summary = other
            mask, flags = other.mask, other.flags
        elif other is not summary:
            flags |= other.flags
            if other.mask != mask:
                differ = True
                new = other.mask & ~mask
                if check and new and _clash(mask, new):
                    return False
                mask |= new
        kids.append(kid)
    uuid = impl.uuid
    relatives = _relatives_of(data_op, uuid)
    if (
        check
        and (relatives is not None or mask & (_risky_one | _risky_many))
        and _may_meet(kids, mask, differ, relatives)
    ):
        return False
    # What the node itself brings.
    slots: list[_Slot] = []
    for choice in contents.choices:
        flags |= _HAS_CHOICE
        slot = _choice_slot(choice)
        if slot is not None and slot not in slots:
            if check and not mask & slot.bit and _clash(mask, slot.bit):
                return False
            slots.append(slot)
            mask |= slot.bit
    if isinstance(impl, _DATAFRAME_HOLDERS):
        flags &= ~_DATAFRAME
    elif contents.dataframe:
        flags |= _DATAFRAME
    if (impl.is_X or impl.is_y) and flags & _HAS_CHOICE:
        flags |= _XY_CHOICE
    keys = _own_keys(impl)
    if keys:
        if check and any(_groups.get(key, 0) & mask for key in keys):
            return False
        slots.append(_new_slot(keys))
        mask |= slots[-1].bit
    # The entry.
    entry = _Entry(data_op, _on_death)
    entry.key = id(data_op)
    entry.serial = next(_serials)
    entry.kids = kids[0] if len(kids) == 1 else tuple(kids)
    entry.slots = tuple(slots)
    entry.uuid = uuid
    entry.cohort = None
    entry.has_choices = bool(contents.choices)
    entry.missing = None
    _join_family(entry, shared)
    if entry.cohort is not None:
        mask |= entry.cohort.slot.bit
    if mask == summary.mask and flags == summary.flags:
        entry.summary = summary
    else:
        for kid in kids:
            if kid.summary.mask == mask and kid.summary.flags == flags:
                entry.summary = kid.summary
                break
        else:
            entry.summary = _Summary(mask, flags)
    _entries[id(data_op)] = entry
    return True


def _enter_all(order: list[tuple[Any, _Contents]], *, check: bool) -> bool:
    """Enter nodes, children first; whether all are now in the table."""
    global _busy
    with _lock:
        if _busy:
            return False
        _busy = True
        try:
            shared = None
            for data_op, contents in order:
                if _entry_of(data_op) is not None:
                    continue
                if not check and shared is None and len(order) > 1:
                    shared = _new_cohort()
                if not _enter(data_op, contents, shared, check=check):
                    return False
        finally:
            _busy = False
            if _dead:
                _bury()
    return True


def _forget(data_op: Any) -> None:
    """Drop the summaries of a graph whose nodes have been changed."""
    for node in _host_eval.nodes(data_op):
        with _lock:
            entry = _entry_of(node)
            if entry is not None:
                del _entries[entry.key]
                _leave_family(entry)


# ---------------------------------------------------------------------------
# The functions that take the place of skrub's
# ---------------------------------------------------------------------------

_originals: dict[str, Any] = {}


def _always() -> bool:
    return True


_active: Callable[[], bool] = _always


def _enter_plain(data_op: Any) -> _Entry | None:
    """Enter a node that holds plain values and nodes with one summary, and brings nothing itself.

    Nearly every node is one.  Nothing can conflict then: all that is below has been checked, and no
    two different sets meet.  None: it is not such a node, and nothing has been done.
    """
    global _busy
    impl = data_op._skrub_impl
    if (
        impl.name is not None
        or impl.is_X
        or impl.is_y
        or isinstance(impl, _BRINGS)
        or impl.uuid in _by_uuid
    ):
        return None
    first: _Entry | None = None
    kids: dict[int, _Entry] | None = None
    for name in impl._fields:
        value = getattr(impl, name)
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is _DataOp:
            items: Any = (value,)
        elif kind is tuple or kind is list:
            items = value
        elif kind is dict:
            items = value.values()
        else:
            return None
        for item in items:
            kind = type(item)
            if kind in _PLAIN:
                continue
            if kind is not _DataOp:
                return None
            kid = _entries.get(id(item))
            if kid is None or kid() is not item:
                return None
            if first is None:
                first = kid
            elif kid is not first:
                if kid.summary is not first.summary:
                    return None
                if kids is None:
                    kids = {first.serial: first}
                kids[kid.serial] = kid
    if first is None:
        return None
    summary = first.summary
    if kids is not None and summary.mask & (_risky_one | _risky_many):
        return None
    entry = _Entry(data_op, _on_death)
    entry.key = id(data_op)
    entry.kids = first if kids is None else tuple(kids.values())
    entry.slots = ()
    entry.uuid = impl.uuid
    entry.cohort = None
    entry.has_choices = False
    entry.missing = None
    entry.summary = summary
    with _lock:
        if _busy:
            return None
        _busy = True
        try:
            if entry.uuid in _by_uuid or (kids is not None and summary.mask & (_risky_one | _risky_many)):
                return None
            entry.serial = next(_serials)
            _by_uuid[entry.uuid] = entry
            _entries[entry.key] = entry
        finally:
            _busy = False
            if _dead:
                _bury()
    return entry


def _find_conflicts(data_op: Any) -> Any:
    global _fresh
    original = _originals["find_conflicts"]
    if not _active() or type(data_op) is not _DataOp or _entry_of(data_op) is not None:
        # A node that is asked about again was changed or failed a check.
        return original(data_op)
    entry = _enter_plain(data_op)
    if entry is not None:
        _fresh = entry.serial
        return None
    try:
        order = _unknown(data_op)
    except Exception:
        # The estimator cannot be cloned, a container holds itself, ...: the
        # error, or another one that comes first, is skrub's to raise.
        order = None
    by_node = order is not None and len(order) <= _MAX_BY_NODE
    if by_node and _enter_all(order, check=True):
        entry = _entry_of(data_op)
        _fresh = 0 if entry is None else entry.serial
        return None
    conflicts = original(data_op)
    if conflicts is None and order is not None:
        _enter_all(order, check=False)
    return conflicts


def _find_dataframe(data_op: Any, func_name: Any) -> Any:
    entry = _entry_of(data_op)
    if (
        entry is not None
        and not entry.summary.flags & _DATAFRAME
        and (entry.serial == _fresh or _active())
    ):
        return None
    return _originals["_find_dataframe"](data_op, func_name)


def _check_choices_before_xy(data_op: Any) -> Any:
    entry = _entry_of(data_op)
    if (
        entry is None
        or entry.summary.flags & _XY_CHOICE
        or not (entry.serial == _fresh or _active())
        or not (_choices_have_names(data_op) if entry.has_choices else True)
    ):
        return _originals["check_choices_before_Xy"](data_op)
    return None


def _choices_have_names(data_op: Any) -> bool:
    # skrub makes up a name from the repr of each choice and fails if the repr
    # does; let it fail.
    try:
        for choice in _read(data_op).choices:
            _host_display_name(choice)
    except Exception:
        return False
    return True


# --- previews --------------------------------------------------------------


def _in_order(values: Any) -> tuple[str | None, bool]:
    """Go through `values` as an evaluation would.

    Returns
    -------
    name : str or None
        The variable without a value that would be met first.
    known : bool
        Whether that is all that can happen: False if something is met whose
        evaluation might fail in another way or succeed.
    """
    for value in values:
        kind = type(value)
        if kind in _PLAIN:
            continue
        if kind is _DataOp:
            impl = value._skrub_impl
            if "preview" in impl.results:
                continue
            if type(impl) is _Var and impl.value is _NULL:
                # As the evaluation would leave it; without a traceback, whose
                # frames would tie the graph into a cycle.
                impl.errors.setdefault("preview", _UninitializedVariable(impl.name))
                return impl.name, True
            entry = _entry_of(value)
            if entry is None or entry.missing is None:
                return None, False
            return entry.missing, True
        if kind is tuple or kind is list or kind is dict:
            items = value.values() if kind is dict else value
            for item in items:
                if type(item) in _PLAIN:
                    continue
                if type(item) is not _DataOp:
                    return None, False
                found = _in_order((item,))
                if found != (None, True):
                    return found
            continue
        return None, False
    return None, True


def preview_known_missing(data_op: Any) -> str | None:
    """Name of the variable whose missing value makes the preview impossible.

    Parameters
    ----------
    data_op : DataOp
        Any DataOp.

    Returns
    -------
    str or None
        The name that skrub's own preview would raise
        ``UninitializedVariable`` for, if that is certain without evaluating
        anything; None if it is not.
    """
    impl = data_op._skrub_impl
    if "preview" in impl.results:
        return None
    kind = type(impl)
    if kind is _Var:
        return impl.name if impl.value is _NULL else None
    entry = _entry_of(data_op)
    if entry is not None and entry.missing is not None:
        return entry.missing
    if kind is _Apply:
        estimator = impl.estimator
        if isinstance(estimator, BaseEstimator):
            if _host_eval.needs_eval(estimator):
                return None
        elif type(estimator) not in _PLAIN:
            return None
        try:
            # asked about the estimator before X is evaluated
            impl.supported_modes(estimator)
        except Exception:
            return None
        return _in_order((impl.X,))[0]
    if hasattr(impl, "eval"):
        field = _FIRST_FIELD.get(kind)
        return None if field is None else _in_order((getattr(impl, field),))[0]
    return _in_order([getattr(impl, name) for name in impl._fields])[0]


def note_missing(data_op: Any, name: str) -> None:
    """Remember that the preview of `data_op` lacks the value of variable `name`.

    Parameters
    ----------
    data_op : DataOp
        A DataOp whose preview raised ``UninitializedVariable``, because of a
        variable in its own graph.
    name : str
        The name of that variable.
    """
    entry = _entry_of(data_op)
    if entry is not None:
        entry.missing = name


def _raised_by_variable(error: BaseException) -> bool:
    """Whether `error` comes from a variable of the evaluated graph itself.

    A function of the user may evaluate another graph; the next evaluation of
    that function may then end differently.
    """
    runs = 0
    code = None
    tb = error.__traceback__
    while tb is not None:
        code = tb.tb_frame.f_code
        runs += code in _RUN_CODES
        tb = tb.tb_next
    return runs == 1 and code is _HOST_VAR_COMPUTE_CODE


def _evaluate(
    data_op: Any,
    mode: str = "preview",
    environment: Any = None,
    clear: bool = False,
    callbacks: Any = (),
    ancestor_data_op: Any = None,
) -> Any:
    original = _originals["evaluate"]
    if (
        mode != "preview"
        or environment is not None
        or clear
        or type(data_op) is not _DataOp
        or not _active()
    ):
        return original(
            data_op, mode, environment, clear, callbacks, ancestor_data_op
        )
    return preview(data_op)


def preview(data_op: Any) -> Any:
    """`evaluate` of a DataOp for its preview, where it is known that the checks are wanted.

    Parameters
    ----------
    data_op : DataOp
        Any DataOp.

    Returns
    -------
    object
        The preview.
    """
    original = _originals["evaluate"]
    name = preview_known_missing(data_op)
    if name is None:
        try:
            return original(data_op, "preview", None, False, (), None)
        except _UninitializedVariable as error:
            if _raised_by_variable(error):
                note_missing(data_op, error.name)
            raise
    note_missing(data_op, name)
    raise _UninitializedVariable(name)


# --- creation stacks and `__init__` ------------------------------------------

# Rows of creation stacks: a node created twice at the same place (a loop, a
# helper) shares them.  Keyed by the id of the code object, which is held.
_MAX_CODES = 4096
_USER, _HOST, _SHELL = range(3)
_codes: dict[int, tuple[types.CodeType, int, dict[int, tuple[Any, ...]]]] = {}

_OWN_FOLDER = pathlib.Path(__file__).parent.parent
# Parts of this package that use DataOps as a script of the user would.
_OWN_SCRIPTS = ("demo", "cli", "examples")


def _kind_of_code(code: types.CodeType) -> int:
    filename = code.co_filename
    frame = types.SimpleNamespace(filename=filename, name=code.co_name)
    if not _host_nodes._remove_shell_frames([frame]):
        return _SHELL
    path = pathlib.Path(filename)
    if path.is_relative_to(_HOST_FOLDER):
        return _HOST
    if path.is_relative_to(_OWN_FOLDER):
        if path.relative_to(_OWN_FOLDER).parts[0] not in _OWN_SCRIPTS:
            return _HOST
    return _USER


# The last one: nodes created at one place (a loop, a helper) share the list, which nobody writes to.
_last_stack: list[tuple[Any, ...]] = []


def _creation_stack() -> list[tuple[Any, ...]]:
    """The same list as skrub's, without reading each source line each time."""
    rows: list[tuple[Any, ...]] = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        known = _codes.get(id(code))
        if known is None:
            if len(_codes) >= _MAX_CODES:
                _codes.clear()
            known = _codes[id(code)] = (code, _kind_of_code(code), {})
        kind = known[1]
        if kind == _HOST:
            # Everything that the outermost such frame called is cut off.
            rows.clear()
        elif kind == _SHELL:
            break
        else:
            row = known[2].get(frame.f_lasti)
            if row is None:
                filename, lineno = code.co_filename, frame.f_lineno
                line = None
                if lineno is not None:
                    linecache.lazycache(filename, frame.f_globals)
                    linecache.checkcache(filename)
                    line = linecache.getline(filename, lineno).strip()
                row = (filename, lineno, code.co_name, line)
                known[2][frame.f_lasti] = row
            rows.append(row)
        frame = frame.f_back
    rows.reverse()
    global _last_stack
    if rows == _last_stack:
        return _last_stack
    _last_stack = rows
    return rows


def _new_uuid() -> int:
    # uuid.uuid4().int without the object around it: version 4, RFC 4122
    number = int.from_bytes(os.urandom(16), "big")
    return number & ~(0xF << 76 | 0xC << 60) | 0x4 << 76 | 0x8 << 60


def _fast_init(cls: type, original: Callable[..., None]) -> Callable[..., None]:
    """`__init__` of a node type, binding arguments by hand when it can.

    It is written out for each type: attributes that are set one by one stay in the object, where
    writing to its `__dict__` makes a dictionary, one object more for the garbage collector in each
    node.
    """
    fields = tuple(cls._fields)  # type: ignore[attr-defined]
    lines = [
        "def __init__(self, *args, **kwargs):",
        "    if kwargs:",
        f"        if len(args) + len(kwargs) != {len(fields)}:",
        "            return original(self, *args, **kwargs)",
        "        try:",
        "            args += tuple([kwargs[field] for field in fields[len(args):]])",
        "        except KeyError:",
        "            return original(self, *args, **kwargs)",
        f"    elif len(args) != {len(fields)}:",
        "        return original(self, *args)",
        *(f"    self.{field} = args[{i}]" for i, field in enumerate(fields)),
        "    self.results = {}",
        "    self.errors = {}",
        "    self.metadata = {}",
        "    try:",
        "        self._creation_stack = nodes._data_op_creation_stack()",
        "    except Exception:",
        "        self._creation_stack = None",
        "    self.is_X = False",
        "    self.is_y = False",
        *(() if "name" in fields else ("    self.name = None",)),
        "    self.uuid = new_uuid()",
        "    self.description = None",
        "    self.checked = False",
        "    return None",
    ]
    names: dict[str, Any] = {
        "original": original,
        "fields": fields,
        "nodes": _host_nodes,
        "new_uuid": _new_uuid,
    }
    # Frames of the package are known by their folder.
    exec(compile("\n".join(lines), f"{__file__}:__init__", "exec"), names)
    return names["__init__"]


class _LazyLabel:
    """Stands for the string that names a node in an error message.

    skrub makes that string at every step, and for `df[mask]` it contains the
    repr of the mask's preview, which is most of what building such a node
    costs: 0.61 ms with it and 0.16 ms without on a dataframe of 1,000 rows.
    """

    __slots__ = ("fallback", "make")

    def __init__(self, make: Callable[[], str], fallback: str) -> None:
        self.make = make
        self.fallback = fallback

    def __str__(self) -> str:
        try:
            return str(self.make())
        except Exception:
            # what skrub does if the label cannot be made
            return self.fallback

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def _item_label(self: Any) -> Any:
    original = _originals["pretty_repr"]
    if type(self.key) is _DataOp:
        return _LazyLabel(lambda: original(self), "__getitem__()")
    return original(self)


def _set_data(self: Any, data: Any) -> Any:
    new = _originals["set_data"](self, data)
    # The values are put in after the copy has been checked, unchecked.
    if _host_eval.needs_eval(data):
        _forget(new)
    return new


# ---------------------------------------------------------------------------
# Putting them in place
# ---------------------------------------------------------------------------

_REPLACED: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (_host_eval, "find_conflicts", _find_conflicts),
    (_host_eval, "check_choices_before_Xy", _check_choices_before_xy),
    (_host_eval, "evaluate", _evaluate),
    (_host_nodes, "_find_dataframe", _find_dataframe),
    (_host_nodes, "_data_op_creation_stack", _creation_stack),
    (_GetItem, "pretty_repr", _item_label),
    (_host_namespace.SkrubNamespace, "set_data", _set_data),
)
_originals.update({name: getattr(place, name) for place, name, _ in _REPLACED})
_inits: dict[type, tuple[Callable[..., None], Callable[..., None]]] = {}
_installed = False


def _node_types() -> list[type]:
    found: list[type] = []
    stack: list[type] = [_DataOpImpl]
    while stack:
        for cls in stack.pop().__subclasses__():
            found.append(cls)
            stack.append(cls)
    return found


def install(active: Callable[[], bool] | None = None, loops: Iterable[types.CodeType] = ()) -> None:
    """Replace skrub's build-time checks by the incremental ones.

    Parameters
    ----------
    active : callable, optional
        Asked, without arguments, at each check; when it returns False skrub's
        own functions are used for that check.  By default always True.
    loops : iterable of code objects, optional
        Functions that evaluate DataOps in the place of skrub's loop.
    """
    global _active, _installed
    _RUN_CODES.update(loops)
    _active = _always if active is None else active
    if _installed:
        return
    for place, name, function in _REPLACED:
        _originals[name] = getattr(place, name)
        functools.update_wrapper(function, _originals[name])
        setattr(place, name, function)
    for cls in _node_types():
        original = cls.__dict__.get("__init__")
        if getattr(original, "__qualname__", None) == _HOST_INIT_QUALNAME:
            function = _fast_init(cls, original)
            functools.update_wrapper(function, original)
            _inits[cls] = (original, function)
            cls.__init__ = function
    _installed = True


def uninstall() -> None:
    """Put skrub's own functions back.

    A function that somebody else has replaced since is left alone.
    """
    global _installed
    if not _installed:
        return
    for place, name, function in _REPLACED:
        if getattr(getattr(place, name), "__code__", None) is function.__code__:  # it, or its front
            setattr(place, name, _originals[name])
    for cls, (original, function) in _inits.items():
        if cls.__dict__.get("__init__") is function:
            cls.__init__ = original
    _inits.clear()
    _installed = False


def installed() -> bool:
    """Whether the incremental checks are in place."""
    return _installed


def may_hold_choice(data_op: Any) -> bool:
    """Whether a choice may be below a DataOp; False only where it is known that there is none."""
    entry = _entries.get(id(data_op))
    return entry is None or entry() is not data_op or bool(entry.summary.flags & _HAS_CHOICE)


def children(data_op: Any) -> list[Any]:
    """The DataOps that a node reads directly."""
    entry = _entry_of(data_op)
    if entry is None:
        return _read(data_op).kids
    return [kid for below in _kids(entry) if (kid := below()) is not None]


def table_sizes() -> dict[str, int]:
    """How much the side tables hold, for tests and for diagnosis.

    Returns
    -------
    dict
        ``nodes`` and ``choices`` that are known and alive, ``bits`` in use and
        ``families`` of nodes that share a uuid.
    """
    with _lock:
        if not _busy:
            _bury()
        return {
            "nodes": len(_entries),
            "choices": len(_choice_refs),
            "bits": len(_slot_keys) - len(_free),
            "families": sum(type(found) is _Family for found in _by_uuid.values()),
        }
