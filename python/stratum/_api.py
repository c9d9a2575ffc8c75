"""The calls that users make beyond skrub's own: run, run_as_completed, lazy, explain.

Batches are the centre: `run` takes any mix of searches, cross-validations and evaluations that were built
separately, fuses them into one graph and computes what they share once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from . import _config, _patch, _verify, engine
from .hosts import _skrub_0_11 as sk
from .hosts import searches

__all__ = ["lazy", "run", "run_as_completed"]


class Lazy:
    """A call that was not made yet; what `stratum.lazy` returns and `stratum.run` takes."""

    def __init__(self, kind: str, data_op: Any, environment: Any, kwargs: dict) -> None:
        self.kind, self.data_op, self.environment, self.kwargs = kind, data_op, environment, kwargs

    def __repr__(self) -> str:
        return f"<stratum.lazy.{self.kind} of {self.data_op._skrub_impl!r}>"


class lazy:
    """Calls to be made by `stratum.run`, together with others."""

    @staticmethod
    def cross_validate(dataop: Any, environment: Any = None, **kwargs: Any) -> Lazy:
        """`dataop.skb.cross_validate(environment, **kwargs)`, later.

        Parameters
        ----------
        dataop : skrub.DataOp
            The pipeline.
        environment : dict, optional
            Values of its variables; by default those given to `skrub.var`.
        **kwargs
            As for `DataOp.skb.cross_validate`.

        Returns
        -------
        Lazy
            An item for `stratum.run`; its result is a pandas DataFrame.
        """
        _check_data_op(dataop, "lazy.cross_validate")
        return Lazy("cross_validate", dataop, environment, kwargs)

    @staticmethod
    def eval(dataop: Any, environment: Any = None, *, keep_subsampling: bool = False) -> Lazy:
        """`dataop.skb.eval(environment)`, later.

        Parameters
        ----------
        dataop : skrub.DataOp
            The pipeline.
        environment : dict, optional
            Values of its variables; by default those given to `skrub.var`.
        keep_subsampling : bool, default=False
            Whether `.skb.subsample` applies.

        Returns
        -------
        Lazy
            An item for `stratum.run`; its result is the value.
        """
        _check_data_op(dataop, "lazy.eval")
        return Lazy("eval", dataop, environment, {"keep_subsampling": keep_subsampling})


def _check_data_op(obj: Any, where: str) -> None:
    if not isinstance(obj, sk.DataOp):
        raise TypeError(f"stratum.{where} takes a skrub DataOp, got {type(obj).__name__}")




def to_item(obj: Any) -> searches.Item:
    """An item of a batch, from what users pass."""
    if isinstance(obj, Lazy):
        if obj.kind == "eval":
            return searches.EvalItem(obj.data_op, obj.environment, **obj.kwargs)
        namespace = obj.data_op.skb
        kwargs = dict(obj.kwargs)
        keep = kwargs.pop("keep_subsampling", False)
        cv = kwargs.pop("cv", None)
        environment = namespace._get_env(obj.environment)
        return searches.CrossValidateItem(obj.data_op, environment, keep, cv, kwargs)
    if isinstance(obj, tuple) and len(obj) == 2 and isinstance(obj[0], sk.ParamSearch):
        return searches.SearchItem(*obj)
    if isinstance(obj, sk.ParamSearch):
        return searches.SearchItem(obj, environment_of(obj))
    raise TypeError(
        "an item of a batch is an unfitted search, (search, environment), stratum.lazy.cross_validate(...)"
        f" or stratum.lazy.eval(...); got {type(obj).__name__}"
    )


def environment_of(search: Any) -> dict:
    """The values that the variables had where the search was made."""
    from .capture import previews

    return previews.environment_of(search)


def _run(items: list[searches.Item]) -> Iterator[tuple[int, engine.Outcome]]:
    if not _patch.active():
        for item in items:
            try:
                value = item.plain()
            except Exception as error:
                yield item.index, engine.Outcome(error=error)
            else:
                yield item.index, engine.Outcome(value=value)
        return
    if _config.option("verify"):
        yield from _verify.run(items)
        return
    yield from engine.execute(items)


def run_one(item: searches.Item) -> Any:
    """Run one item: its value, or its exception raised."""
    outcome = engine.Outcome()
    for _, outcome in _run([item]):
        pass
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


def run_as_completed(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Run items as one batch and yield each result as it is there.

    Parameters
    ----------
    items : iterable
        As for `run`.

    Yields
    ------
    (int, object)
        The item's position and its result; the exception in its place if it failed.
    """
    batch = [to_item(obj) for obj in items]
    for i, item in enumerate(batch):
        item.index = i
    for index, outcome in _run(batch):
        yield index, outcome.error if outcome.error is not None else outcome.value


def run(items: Iterable[Any], on_error: str = "raise") -> list:
    """Run a batch of pipelines that were built separately, computing what they share once.

    Parameters
    ----------
    items : iterable
        Each one an unfitted search (made by `make_grid_search` or `make_randomized_search`), a tuple
        (search, environment), `stratum.lazy.cross_validate(...)` or `stratum.lazy.eval(...)`.
    on_error : {"raise", "return"}, default="raise"
        With "return" an item's exception stands in its place. With "raise" the first one is raised after
        all items have ended, with the list as its attribute `results`.

    Returns
    -------
    list
        In the order of the items: the fitted search, or what skrub's call would have returned.

    Examples
    --------
    >>> import stratum as skrub
    >>> a = skrub.var("a", 1)
    >>> skrub.run([skrub.lazy.eval(a + 1), skrub.lazy.eval(a * 10, {"a": 2})])
    [2, 20]
    """
    if on_error not in ("raise", "return"):
        raise ValueError(f"on_error must be 'raise' or 'return', got: {on_error!r}")
    batch = [to_item(obj) for obj in items]
    results: list[Any] = [None] * len(batch)
    first: tuple[int, BaseException] | None = None
    for i, item in enumerate(batch):
        item.index = i
    for index, outcome in _run(batch):
        if outcome.error is None:
            results[index] = outcome.value
            continue
        results[index] = outcome.error
        if first is None or index < first[0]:
            first = (index, outcome.error)
    if first is not None and on_error == "raise":
        error = first[1]
        error.results = results  # type: ignore[attr-defined]
        raise error
    return results
