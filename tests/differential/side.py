"""One side of the differential test, a process of its own.

``python -m tests.differential.side --engine skrub|stratum`` reads recipes (``generate``), one JSON
line each, from the standard input, runs them, and writes one JSON line each: everything that a
user could see of the outcome, in the canonical form of ``values``. With ``--engine skrub``
stratum is never imported. ``--plant NAME`` first plants a fault (``faults``); a line
``{"plant": NAME}`` plants it in a fork, which then reads the lines up to ``{"end": true}``: a start
costs seconds of imports, a fork nothing. (The process that forks has run nothing itself, so that no
library has started threads in it.)

Numeric libraries are pinned to one thread, so that results are comparable bit by bit.
"""

from __future__ import annotations

import os

for _name in (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS", "VECLIB_MAXIMUM_THREADS",
):  # fmt: skip
    os.environ[_name] = "1"

import argparse  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import pathlib  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
import types  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from typing import Any  # noqa: E402

_ROOT = str(pathlib.Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from tests.differential import udf, values  # noqa: E402
from tests.differential.build import Builder, make_tables  # noqa: E402

# Generous: a case takes about a second, but a machine may be busy with other things.
TIME_LIMIT = 180.0
# Entries that make no run of the engine's of their own.
_NO_RUN = ("eval", "learner", "iter_learners_grid", "iter_learners_randomized", "truncated_after")
# What skrub writes on a node when it is fitted.
_FITTED = ("estimator_", "estimator_was_wrapped_", "_y_type", "_y_col_names", "all_outputs_", "value_")


class TimeLimit(BaseException):
    """A recipe took too long. Not an ``Exception``: no code under test may swallow it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeLimit`` in the main thread after so many seconds."""

    def ring(*_: Any) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def attempt(action: Callable[[], Any]) -> Any:
    """What an action gives, in canonical form, or its exception."""
    try:
        return values.canon(action())
    except Exception as error:
        return {"error": values.exception(error)}


def node_states(data_op: Any) -> list[Any]:
    """The fitted state of each node of a graph, in the graph's own order."""
    from skrub._data_ops._evaluation import nodes

    out = []
    for node in nodes(data_op):
        impl = node._skrub_impl
        state: dict[str, Any] = {"node": type(impl).__name__}
        for name in _FITTED:
            if name in vars(impl):
                state[name] = values.canon(vars(impl)[name])
        if impl.errors:
            state["errors"] = [[m, values.exception(e)] for m, e in impl.errors.items()]
        out.append(state)
    return out


def describe_learner(learner: Any, environments: list[dict[str, Any]]) -> dict[str, Any]:
    """A fitted learner: its parameters, its nodes, and its predictions."""
    out = {
        "type": type(learner).__name__,
        "params": attempt(learner.describe_params),
        "states": node_states(learner.data_op),
        "predictions": [],
    }
    for environment in environments:
        for method in ("predict", "predict_proba", "transform", "score"):
            if method in ("predict_proba", "score") and not hasattr(learner, method):
                continue
            out["predictions"].append(
                [method, attempt(lambda m=method, e=environment: getattr(learner, m)(dict(e)))]
            )
    return out


def describe_search(search: Any, environments: list[dict[str, Any]]) -> dict[str, Any]:
    """A fitted search: everything that it says."""
    out: dict[str, Any] = {
        "type": type(search).__name__,
        "attributes": sorted(n for n in vars(search) if n.endswith("_")),
        "cv_results": values.results_dict(search.cv_results_),
        "n_splits": values.canon(search.n_splits_),
        "multimetric": values.canon(search.multimetric_),
        "refit": values.canon(search.refit_),
    }
    for name in ("results_", "detailed_results_"):
        try:
            out[name] = values.results_frame(getattr(search, name))
        except Exception as error:
            out[name] = {"error": values.exception(error)}
    for name in ("best_index_", "best_score_", "best_params_"):
        out[name] = values.canon(getattr(search, name)) if hasattr(search, name) else "(absent)"
    if hasattr(search, "refit_time_"):
        out["refit_time_"] = values.times(search.refit_time_)
    if hasattr(search, "best_learner_"):
        out["best_learner"] = describe_learner(search.best_learner_, environments)
    for environment in environments[:1]:
        out["predict"] = attempt(lambda: search.predict(dict(environment)))
    return out


def describe_cv(table: Any) -> dict[str, Any]:
    """What cross-validation gives."""
    if not isinstance(table, pd.DataFrame):
        return {"result": values.canon(table)}
    out = {"cv": values.results_frame(table)}
    if "learner" in table.columns:
        out["learners"] = []
        for learner in table["learner"]:
            if hasattr(learner, "cv_results_"):
                out["learners"].append(values.results_dict(learner.cv_results_))
            else:
                out["learners"].append(node_states(learner.data_op))
    return out


def _quick_creation_stacks() -> None:
    """Make skrub record where a node was created with the same outcome in less time.

    skrub does so for every node of every clone of a graph: on small data that is 40 % of the time
    of a search, nearly all of it in matching paths of the frames above, again and again the same.
    Only the plain side needs this.
    """
    import functools
    import linecache

    from skrub._data_ops import _data_ops

    package = pathlib.Path(_data_ops.__file__).parent

    @functools.lru_cache(maxsize=None)
    def inside(filename: str) -> bool:
        return pathlib.Path(filename).is_relative_to(package)

    @functools.lru_cache(maxsize=None)
    def of_a_shell(filename: str, name: str) -> bool:
        return not _data_ops._remove_shell_frames([types.SimpleNamespace(filename=filename, name=name)])

    def creation_stack() -> list[tuple[str, int, str, str]]:
        frames = []
        frame: Any = sys._getframe(1)
        while frame is not None:
            frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, frame))
            frame = frame.f_back
        frames.reverse()
        first = 1 + max((k for k, f in enumerate(frames) if of_a_shell(f[0], f[2])), default=-1)
        out = []
        for filename, lineno, name, frame in frames[first:]:
            if inside(filename):
                break
            line = linecache.getline(filename, lineno, frame.f_globals).strip()
            out.append((filename, lineno, name, line))
        return out

    _data_ops._data_op_creation_stack = creation_stack


class Side:
    """Runs recipes through one engine.

    Parameters
    ----------
    engine : str
        ``"skrub"`` or ``"stratum"``.
    """

    # What skrub, running the items of a batch one after another, stands for.
    first_error = staticmethod(lambda errors: errors[0])
    in_order = staticmethod(lambda made: made)

    def __init__(self, engine: str) -> None:
        self.engine = engine
        if engine == "stratum":
            import stratum as package
        else:
            import skrub as package

            _quick_creation_stacks()
        self.package = package

    def run(self, recipe: dict[str, Any], limit: float = TIME_LIMIT) -> dict[str, Any]:
        """Run one recipe; what came of it."""
        started = time.perf_counter()
        out: dict[str, Any] = {"seed": recipe["seed"]}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with time_limit(limit):
                    self._run(recipe, out)
            except TimeLimit:
                out["timeout"] = "".join(traceback.format_stack(limit=12))
        out["warnings"] = sorted({f"{w.category.__name__}" for w in caught})
        out["fit_failed"] = [
            values.scrub(str(w.message)).strip().split("\n")[0]
            for w in caught
            if w.category.__name__ == "FitFailedWarning"
        ]
        # (Items that come as they finish warn in that order, which no two runs need to share.)
        if any(entry.get("completed") for entry in recipe["entries"]):
            out["fit_failed"].sort()
        out["seconds"] = time.perf_counter() - started
        return out

    def _run(self, recipe: dict[str, Any], out: dict[str, Any]) -> None:
        tables = make_tables(recipe)
        before = values.canon(tables)
        builder = Builder(recipe, self.package, tables)
        out["coverage"] = {"nodes": [], "dtypes": _dtypes(tables), "tags": list(recipe["tags"]), "entries": []}
        out["fallbacks"] = []
        if self.engine == "stratum":
            out["exactness"] = self.package.get_config()["exactness"]
        try:
            target = builder.build()
        except Exception as error:
            out["build"] = {"error": values.exception(error)}
            return
        out["build"] = {"steps": len(builder.objects), "repr": values.scrub(repr(target))[:120].split("\n")[0]}
        out["coverage"]["nodes"] = _node_classes(target)
        out["coverage"]["tags"] += builder.tags
        out["entries"] = []
        for entry in recipe["entries"]:
            self.notes: list[str] = []
            try:
                described = self._entry(entry, builder, recipe)
            except Exception as error:
                described = {"error": values.exception(error)}
            else:
                out["coverage"]["entries"] += _entry_tags(entry, recipe) + self.notes
            out["entries"].append([entry["kind"], described])
            if self.engine == "stratum" and entry["kind"] not in _NO_RUN:
                out["fallbacks"] += self._fallbacks(entry["kind"])
        # The user's data, graph and estimators are as they were.
        # (Evaluated in place, skrub draws from the RandomState that the user handed over; the engine
        # leaves it alone. So generators are reset before comparing.)
        for estimator in builder.estimators:
            if isinstance(getattr(estimator, "random_state", None), np.random.RandomState):
                estimator.random_state.seed(0)
        out["estimators_after"] = values.canon(builder.estimators)
        # (Errors of previews that lacked a value are noted on nodes by skrub, and mean nothing.)
        out["states_after"] = [sorted(n for n in s if n not in ("node", "errors")) for s in node_states(target)]
        out["tables_changed"] = values.canon(tables) != before
        out["nodes_after"] = _node_classes(target)

    def _fallbacks(self, kind: str) -> list[list[str]]:
        stats = self.package.last_run()
        if stats is None:
            return [[kind, "no run was recorded"]]
        return [[str(what), str(reason)] for what, reason in stats.fallbacks]

    # -- entries ----------------------------------------------------------------

    def _target(self, entry: dict[str, Any], builder: Builder) -> Any:
        target = builder.objects[entry["target"]]
        if "broken" in entry:
            fails = self.package.deferred(udf.fail_unless_preview)
            return fails(target, self.package.eval_mode(), entry["broken"])
        for info in entry.get("with_scoring", ()):
            kwargs = {k: builder.value(v) for k, v in info.items() if k != "scoring"}
            target = target.skb.with_scoring(builder.value(info["scoring"]), **kwargs)
        return target

    def _entry(self, entry: dict[str, Any], builder: Builder, recipe: dict[str, Any]) -> Any:
        kind = entry["kind"]
        if kind == "batch":
            return self._batch(entry, builder, recipe)
        if kind == "eval":
            return self._eval(entry, builder)
        if kind == "learner":
            return self._learner(entry, builder)
        if kind.startswith("iter_learners"):
            return self._learners(entry, builder)
        if kind == "truncated_after":
            return self._truncated(entry, builder)
        if kind == "nested_cross_validate":
            target = self._target(entry, builder)
            self._note_nodes(target)
            search = target.skb.make_grid_search(**self._kwargs(entry, builder))
            outer = {k: builder.value(v) for k, v in entry["outer"].items()}
            env = builder.environment(entry["env"])
            return describe_cv(self.package.cross_validate(search, env, return_learner=True, **outer))
        if kind.startswith("lazy_"):
            if self.engine == "stratum":
                made = self.package.run([self._item(entry, builder)])[0]
            else:
                made = self._one_by_one(entry, builder)
            return self._describe(entry, builder, made)
        return self._describe(entry, builder, self._one_by_one(entry, builder))

    def _kwargs(self, entry: dict[str, Any], builder: Builder) -> dict[str, Any]:
        return {k: builder.value(v) for k, v in entry.get("kwargs", {}).items()}

    def _note_nodes(self, target: Any) -> None:
        self.notes += [f"node:{n}" for n in _node_classes(target) if n == "Scoring"]

    def _search(self, entry: dict[str, Any], builder: Builder, *, fitted: bool = False) -> Any:
        target = self._target(entry, builder)
        self._note_nodes(target)
        kwargs = self._kwargs(entry, builder)
        make = target.skb.make_grid_search if entry["search"] == "grid" else target.skb.make_randomized_search
        return make(fitted=True, **kwargs) if fitted else make(**kwargs)

    def _one_by_one(self, entry: dict[str, Any], builder: Builder) -> Any:
        """The plain way to do what an entry says; the object that it gives."""
        return self._ready(entry, builder)()

    def _ready(self, entry: dict[str, Any], builder: Builder) -> Callable[[], Any]:
        """The same in two steps: what an item of a batch is made of, and what runs it."""
        kind = entry["kind"]
        env = builder.environment(entry["env"])
        if kind in ("grid_fitted", "randomized_fitted"):
            return lambda: self._search(entry, builder, fitted=True)
        if "search" in entry:
            search = self._search(entry, builder)
            return lambda: search.fit(env)
        target = self._target(entry, builder)
        self._note_nodes(target)
        if kind in ("cross_validate", "lazy_cross_validate"):
            kwargs = self._kwargs(entry, builder)
            return lambda: target.skb.cross_validate(env, **kwargs)
        if kind == "learner_cross_validate":
            learner, kwargs = target.skb.make_learner(), self._kwargs(entry, builder)
            return lambda: self.package.cross_validate(learner, env, **kwargs)
        if kind == "lazy_eval":
            return lambda: target.skb.eval(env)
        raise AssertionError(f"no such entry: {kind}")

    def _item(self, entry: dict[str, Any], builder: Builder) -> Any:
        """The same as an item of a batch of stratum."""
        env = builder.environment(entry["env"])
        if "search" in entry:
            return (self._search(entry, builder), env)
        target = self._target(entry, builder)
        self._note_nodes(target)
        if entry["kind"] == "lazy_eval":
            return self.package.lazy.eval(target, env)
        return self.package.lazy.cross_validate(target, env, **self._kwargs(entry, builder))

    def _describe(self, entry: dict[str, Any], builder: Builder, made: Any) -> Any:
        if isinstance(made, BaseException):
            return {"error": values.exception(made)}
        if "search" in entry:
            environments = []
            recipe_steps = builder.recipe["steps"]
            for name in ("new_env",) if len(recipe_steps) % 3 else ("new_env", "env"):
                if entry.get(name) is not None:
                    environments.append(builder.environment(entry[name]))
            return describe_search(made, environments)
        if entry["kind"] == "lazy_eval":
            out = {"eval": values.canon(made)}
            out["also"] = [
                [name, attempt(lambda n=name: self._eval_one(builder.objects[n], builder.environment(entry["env"])))]
                for name in entry["also"]
            ]
            return out
        return describe_cv(made)

    def _eval_one(self, node: Any, env: dict[str, Any] | None) -> Any:
        if self.engine == "stratum":
            return self.package.run([self.package.lazy.eval(node, env)])[0]
        return node.skb.eval(env)

    def _batch(self, entry: dict[str, Any], builder: Builder, recipe: dict[str, Any]) -> Any:
        builders = []
        for item in entry["items"]:
            other = builder
            if item["rebuild"]:
                other = Builder(recipe, self.package, builder.tables)
                other.build()
            builders.append(other)
        pairs = list(zip(entry["items"], builders))
        raised: Any = None
        if self.engine == "stratum":
            items = [self._item(item, other) for item, other in pairs]
            if entry["completed"]:
                found = dict(self.package.run_as_completed(items))
                made = [found[k] for k in range(len(items))]
            else:
                try:
                    made = self.package.run(items, on_error=entry["on_error"])
                except Exception as error:
                    raised, made = error, error.results
        else:
            made = []
            # (All are made before one runs, as in a batch: a search copies its generators when it is made.)
            for one in [self._ready(item, other) for item, other in pairs]:
                try:
                    made.append(one())
                except Exception as error:
                    made.append(error)
            errors = [one for one in made if isinstance(one, BaseException)]
            if errors and entry["on_error"] == "raise" and not entry["completed"]:
                raised = self.first_error(errors)
            made = self.in_order(made)
        if not isinstance(raised, BaseException | None):
            raise AssertionError("what a run raises is an exception")
        out: dict[str, Any] = {"raised": None if raised is None else values.exception(raised)}
        out["items"] = [
            [item["kind"], self._describe(item, other, one)] for (item, other), one in zip(pairs, made)
        ]
        self.notes += [
            tag
            for item, one in zip(entry["items"], made)
            if not isinstance(one, BaseException)
            for tag in _entry_tags(item, recipe)
        ]
        return out

    def _eval(self, entry: dict[str, Any], builder: Builder) -> Any:
        target = self._target(entry, builder)
        keep = {"keep_subsampling": True} if entry.get("keep_subsampling") else {}
        env = builder.environment(entry["env"])
        out = {"eval": values.canon(target.skb.eval(env, **keep))}
        out["also"] = [
            [name, attempt(lambda n=name: builder.objects[n].skb.eval(builder.environment(entry["env"])))]
            for name in entry["also"]
        ]
        if builder.recipe["with_values"]:
            out["preview"] = attempt(target.skb.preview)
        return out

    def _learner(self, entry: dict[str, Any], builder: Builder) -> Any:
        target = self._target(entry, builder)
        env, new = builder.environment(entry["env"]), builder.environment(entry["new_env"])
        learner = target.skb.make_learner()
        if entry["split"]:
            split = target.skb.train_test_split(env, **entry.get("split_kwargs", {}))
            learner.fit(split["train"])
            return {
                "learner": describe_learner(learner, [split["test"], new]),
                "y_test": values.canon(split.get("y_test")),
            }
        learner.fit(env)
        return {"learner": describe_learner(learner, [new])}

    def _learners(self, entry: dict[str, Any], builder: Builder) -> Any:
        target = self._target(entry, builder)
        out = []
        for learner in getattr(target.skb, entry["kind"])(**self._kwargs(entry, builder)):
            env, new = builder.environment(entry["env"]), builder.environment(entry["new_env"])
            fitted = attempt(lambda one=learner, e=env: type(one.fit(e)).__name__)
            out.append([fitted, describe_learner(learner, [] if isinstance(fitted, dict) else [new])])
        return out

    def _truncated(self, entry: dict[str, Any], builder: Builder) -> Any:
        learner = self._target(entry, builder).skb.make_learner()
        learner.fit(builder.environment(entry["env"]))
        beginning = learner.truncated_after(builder.objects[entry["after"]].skb.id)
        return describe_learner(beginning, [builder.environment(entry["new_env"])])


# --------------------------------------------------------------------------
# what a recipe covered


def _node_classes(data_op: Any) -> list[str]:
    from skrub._data_ops._evaluation import nodes

    return [type(n._skrub_impl).__name__ for n in nodes(data_op)]


def _dtypes(tables: dict[str, Any]) -> list[str]:
    main = tables["main"]
    if isinstance(main, np.ndarray):
        return ["numpy"]
    if not isinstance(main, pd.DataFrame):
        return ["polars"]
    names = set()
    for dtype in main.dtypes:
        if isinstance(dtype, pd.ArrowDtype):
            names.add("arrow")
        elif isinstance(dtype, pd.CategoricalDtype):
            names.add("category")
        elif isinstance(dtype, pd.StringDtype):
            names.add("str")
        else:
            names.add(str(dtype).split("[")[0])
    return sorted(names)


def _entry_tags(entry: dict[str, Any], recipe: dict[str, Any]) -> list[str]:
    out = [f"entry:{entry['kind']}"]
    if entry["kind"] == "batch":
        out.append("batch:completed" if entry["completed"] else f"batch:{entry['on_error']}")
    if "scorer" in entry:
        out.append(f"scorer:{entry['scorer']}")
    splitter = entry.get("splitter")
    if splitter == "inside":
        splitter = recipe.get("inside")
    if splitter is not None:
        out.append(f"splitter:{splitter}")
    if entry["kind"] == "nested_cross_validate":
        out.append("splitter:int")
    return out


def main(arguments: list[str] | None = None) -> int:
    """Read recipes, write results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--engine", choices=["skrub", "stratum"], required=True)
    parser.add_argument("--plant", default=None, help="name of a fault to plant (see faults.py)")
    parser.add_argument("--limit", type=float, default=TIME_LIMIT, help="seconds a recipe may take")
    options = parser.parse_args(arguments)
    # Libraries print; results go to the descriptor that was the standard output at the start.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    side = Side(options.engine)
    if options.plant is not None:
        from tests.differential import faults

        faults.plant(options.plant, options.engine)
    serve(side, _lines(0), channel, options.limit)
    return 0


def _lines(descriptor: int) -> Iterator[str]:
    """Lines of a descriptor."""
    buffer = b""
    while data := os.read(descriptor, 1 << 20):
        buffer += data
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            if line.strip():
                yield line.decode()


def serve(side: Side, lines: Iterator[str], channel: Any, limit: float, *, forked: bool = False) -> None:
    """Answer lines until there are no more; a fork, until one that says so.

    Each line is answered by one line, and whoever sends them waits for the answer: so nothing is
    ever read by one process that another one should have read.
    """

    def answer(value: dict[str, Any]) -> None:
        channel.write(json.dumps(value) + "\n")
        channel.flush()

    for line in lines:
        message = json.loads(line)
        if "end" in message:
            if forked:
                return
            answer({"ended": True})
            continue
        if "plant" not in message:
            answer(side.run(message, limit))
            continue
        from tests.differential import build, faults

        build.load_everything()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                faults.plant(message["plant"], side.engine)
                answer({"planted": message["plant"]})
                serve(side, lines, channel, limit, forked=True)
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        answer({"died": side.engine, "code": status} if status else {"ended": True})


if __name__ == "__main__":
    # Under its own name, so that faults are planted in the classes that run.
    from tests.differential.side import main as run_side

    raise SystemExit(run_side())
