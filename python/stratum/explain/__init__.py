"""`explain`: the plan of a pipeline as text, before it runs or after."""

from __future__ import annotations

from typing import Any

from .. import _core, engine
from ..hosts import _skrub_0_11 as sk
from ..hosts import _sklearn as skl
from ..hosts import searches

__all__ = ["explain"]


def explain(x: Any) -> str:
    """The plan of a search, a batch item or a DataOp, as text.

    Parameters
    ----------
    x : skrub.ParamSearch, skrub.DataOp, item of a batch, list of these, or RunStats
        What to explain. Nothing is computed: folds stand for rows that are not known yet.

    Returns
    -------
    str
        What was captured, how many nodes are asked for and are left, what is shared by how many, what
        falls back to skrub's own evaluator and why, and the nodes, inputs first.
    """
    if isinstance(x, engine.RunStats):
        return _of_run(x)
    items = x if isinstance(x, (list, tuple)) and not _is_pair(x) else [x]
    return _of_items(list(items))


def _is_pair(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], sk.ParamSearch)


def _of_run(stats: engine.RunStats) -> str:
    lines = [
        f"nodes asked for: {stats.nodes_before}",
        f"nodes after sharing: {stats.nodes_after}",
        f"nodes run: {stats.nodes_run} (values already there: {stats.reused}, run again: {stats.recomputed})",
        f"time: {stats.seconds:.3f} s; inside nodes, over all threads: {stats.node_seconds:.3f} s",
    ]
    if stats.fused:
        lines.append(f"fits made together with others: {stats.fused}")
    lines += [f"fell back to skrub: {what}: {why}" for what, why in stats.fallbacks]
    by_op: dict[tuple[str, str], list[float]] = {}
    for op, text, seconds in stats.profile:
        by_op.setdefault((op, text), []).append(seconds)
    for (op, text), spent in sorted(by_op.items(), key=lambda kv: -sum(kv[1]))[:20]:
        lines.append(f"  {sum(spent):9.3f} s  {len(spent):4d} x {op} {text}".rstrip())
    return "\n".join(lines)


def _candidates(item: searches.Item) -> list[list[tuple[int, Any]]]:
    """Outcomes of each candidate of a search, or the default one."""
    if not isinstance(item, searches.SearchItem):
        return [[]]
    params = skl.candidates_of(item.search)
    choices = sk.evaluation.choices(item.data_op)
    entry = {f"data_op__{k}": item.plan.index_of(c) for k, c in choices.items()}
    discrete = {f"data_op__{k}" for k, c in choices.items() if isinstance(c, sk.choosing.Choice)}
    return [[(entry[k], int(v) if k in discrete else v) for k, v in one.items()] for one in params]


def _folds(item: searches.Item) -> int:
    cv = item.search.cv if isinstance(item, searches.SearchItem) else item.given_cv
    if cv is None and item.has_cv:
        cv = item.x_node._skrub_impl.cv
    if isinstance(cv, int):
        return cv
    n = getattr(cv, "n_splits", None)
    return n if isinstance(n, int) else 5


def _of_items(objects: list[Any]) -> str:
    from .. import _api

    own = engine.Engine()
    before = own.graph.stats()
    refs: list[Any] = []
    users: dict[int, set] = {}
    lines: list[str] = []
    keep = []
    captured = 0
    for number, obj in enumerate(objects):
        if isinstance(obj, sk.DataOp):
            obj = _api.lazy.eval(obj)
        item = _api.to_item(obj)
        try:
            item.prepare(own)
        except (sk.Unsupported, _core.EngineError) as why:
            lines.append(f"{item.what} {number}: falls back to skrub: {why}")
            continue
        captured += len(item.plan)
        keep.append(item)
        if isinstance(item, searches.EvalItem):
            roots = [("value", item.scopes[0].ref(item.root))]
        else:
            roots = _lower_folds(own, item)
        for label, ref in roots:
            refs.append(ref)
            for node in own.graph.order([ref]):
                users.setdefault(node.id, set()).add((number, label))
    after = own.graph.stats()
    order = own.graph.order(refs) if refs else []
    lines.insert(0, f"captured: {captured} entries")
    lines.insert(1, f"nodes asked for: {after['asked'] - before['asked']}")
    lines.insert(2, f"nodes after sharing: {len(order)}")
    shared = sorted(((len(users[r.id]), r) for r in order if len(users[r.id]) > 1), key=lambda p: -p[0])
    if shared:
        lines.append("shared by most (evaluations that use the node):")
        lines += [f"  {n:4d} x {r.op} {r.origin!r}" if r.origin is not None else f"  {n:4d} x {r.op}" for n, r in shared[:10]]
    lines.append("nodes:")
    text = own.graph.print(refs) if refs else ""
    lines += ["  " + line for line in text.splitlines()]
    for item in keep:
        item.done()
    return "\n".join(lines)


def _lower_folds(own: engine.Engine, item: searches.FoldsItem) -> list[tuple[tuple, Any]]:
    """Nodes of every candidate and fold, with marks in place of rows."""
    item.engine = own
    item.scoring_entry, item.scorer = -1, sk.score_of_pipeline
    base = _core.Scope(item.plan, "fit")
    sk.bind_environment(base, item.entries, item.environment)
    cv = _core.CV(
        item.plan, item.root, base, 0, 0, item.x_entry, item.y_entry,
        own.number("take"), own.number("score"), lambda est: 8, lambda c, f, t: None,
    )  # fmt: skip
    cv.data(item.x_ref, item.y_ref)
    folds = _folds(item)
    for k in range(folds):
        cv.add_fold(_core.Leaf(f"train rows {k}"), _core.Leaf(f"test rows {k}"))
    for outcomes in _candidates(item):
        cv.add_candidate(outcomes)
    cv.scoring((None, None, None, None), -1, False)
    cv.lower()
    item.cv = cv
    return [((i // folds, i % folds), ref) for i, ref in enumerate(cv.refs(1))]
