"""The import hook: stratum comes in when a script imports what it accelerates, and not before.

Who loads it
    ``sitecustomize`` beside it (``python -m stratum run``), or the ``.pth`` file that ``python -m stratum
    install-hook`` writes, where ``STRATUM=1`` is set. It stands alone: in site-packages it lies outside the
    package, so that a process that never imports skrub pays for one small module.

How it works
    A finder in front of ``sys.meta_path`` answers for the watched modules only. It hands out the spec that
    the other finders find; the spec's class gets a property in the place where the import system notes that
    the module has been initialised. So there is no loader of ours, no frame of ours in a traceback out of
    the module, and the spec is an ordinary one again before anyone sees it.

    skrub: stratum is imported, which replaces skrub's methods. scikit-learn's model_selection: its searches
    and cross-validations are computed attributes; the script gets those of ``stratum.sklearn``, libraries
    that ask for one get scikit-learn's own.
"""

import os
import sys
from importlib.machinery import ModuleSpec

#: What the script gets from ``stratum.sklearn`` in the place of scikit-learn's.
SEARCHES = (
    "GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV",
    "cross_val_score", "cross_validate", "cross_val_predict",
)  # fmt: skip

#: The directory through which scripts that run together share, or None.
exchange = None

#: ``stratum.scripts.patched`` in a script that shares: it is told of imports of these packages.
patched = None
libraries = frozenset()

#: Stratum is being imported for its `sklearn` alone: skrub and the engine can wait.
lightly = False

_ours = False  # stratum was imported from here, not by the script
_home = None  # the package's directory, where the runner says so
_actions = {}
_passing = set()  # names that are being looked for: the other finders answer
_forget = []


class _Watched(ModuleSpec):
    """A spec that tells when its module has been initialised."""

    @property
    def _initializing(self):
        return self.__dict__.get("_initializing", False)

    @_initializing.setter
    def _initializing(self, value):
        self.__dict__["_initializing"] = value
        if value:
            _begins(self.name)
        else:
            self.__class__ = ModuleSpec
            _ends(self.name, sys.modules.get(self.name))


class _Finder:
    """Answers for the watched modules."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if _forget:
            for gone in _forget:
                sys.modules.pop(gone, None)
            _forget.clear()
        watched = name in _actions or (patched is not None and name.partition(".")[0] in libraries)
        if not watched or name in _passing:
            return None
        _passing.add(name)
        try:
            for finder in sys.meta_path:
                find = getattr(finder, "find_spec", None)
                spec = find(name, path, target) if find is not None and finder is not _Finder else None
                if spec is not None:
                    if type(spec) is ModuleSpec:
                        spec.__class__ = _Watched
                    return spec
            return None
        finally:
            _passing.discard(name)


def _begins(name):
    """A watched module begins to be imported."""
    if patched is not None and name.partition(".")[0] in libraries:
        patched.begun()


def _ends(name, module):
    """A watched module is there, or None: its import failed."""
    if patched is not None and name.partition(".")[0] in libraries:
        patched.ended(name, module)
    if module is None:
        return
    action = _actions.pop(name, None)
    if action is not None:
        action(module)
    if not _actions and patched is None and not _forget and _Finder in sys.meta_path:
        sys.meta_path.remove(_Finder)


def forget_later(name):
    """Take a module out of ``sys.modules`` as soon as the import system is done with it."""
    _forget.append(name)


# -- What is done when a module has been imported ---------------------------------------------------


def _load_stratum():
    """Import the package; from the runner's directory where it is not on the script's path."""
    global _ours
    if "stratum" in sys.modules:
        return sys.modules["stratum"]
    _ours = True
    if _home is None:
        import stratum

        return stratum
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(
        "stratum", os.path.join(_home, "__init__.py"), submodule_search_locations=[_home]
    )
    module = sys.modules["stratum"] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop("stratum", None)
        raise
    return module


def _plain(error):
    """Say that the script runs without stratum."""
    import warnings

    text = f"stratum cannot be used here, everything runs without it: {type(error).__name__}: {error}"
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _on_skrub(module):
    asked = "stratum" in sys.modules and not _ours  # the script imports it, and skrub through it
    try:
        package = _load_stratum()
        package._load()
        if not asked:
            from importlib import import_module

            # The script's stderr is its own, and so are the bits of what it prints: it knows nothing of kernels
            # that round otherwise, or of work that is shared.  (The package may be in the middle of loading.)
            defaults = import_module("stratum._config")._defaults
            # Under the runner, the next process finds what this one has computed.
            ours = {"progress": False, "exactness": "identical", "unseeded": "faithful"}
            if _home is not None:
                ours["reuse"] = "disk"
            for name, value in ours.items():
                if not os.environ.get(f"STRATUM_{name.upper()}"):
                    defaults[name] = value
    except Exception as error:  # the script must run as without: it is told why it is not faster
        _plain(error)


def _from_a_library(frame):
    """Whether code of an installed package, rather than of the script, asks for an attribute."""
    name = frame.f_globals.get("__name__", "")
    module = sys.modules.get(name.partition(".")[0]) if isinstance(name, str) else None
    place = getattr(module, "__file__", None) or ""
    inside = any(f"{os.sep}{part}{os.sep}" in place for part in ("site-packages", "dist-packages"))
    return inside or name.partition(".")[0] in ("stratum", "importlib")


def _on_model_selection(module):
    space = module.__dict__
    own = {}
    before = space.get("__getattr__")
    ours = {}

    def replaced(name):
        if name not in ours:
            try:
                ours[name] = _of_stratum(name)
            except Exception as error:  # as for skrub: plain scikit-learn, and a word why
                _plain(error)
                ours[name] = None
        return ours[name]

    def __getattr__(name):
        if name in own:
            found = own[name]
            if _from_a_library(sys._getframe(1)):
                return found
            new = replaced(name)
            return found if new is None else new
        if before is not None:
            return before(name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*space, *own})

    def take(_=None):
        for name in SEARCHES:
            if name in space:
                own[name] = space.pop(name)

    take()
    space["__getattr__"] = __getattr__
    space["__dir__"] = __dir__
    # Halving searches are put into the module by an import of their own.
    _actions["sklearn.experimental.enable_halving_search_cv"] = take


def _of_stratum(name):
    """What ``stratum.sklearn`` has under a name; None where it has nothing."""
    from importlib import import_module
    from importlib.util import find_spec

    global lightly
    lightly = True
    try:
        _load_stratum()
    finally:
        lightly = False
    if find_spec("stratum.sklearn") is None:
        return None
    return getattr(import_module("stratum.sklearn"), name, None)


# -- Starting ---------------------------------------------------------------------------------------


def start():
    """Watch imports; what is imported already is taken at once."""
    wanted = {"skrub": _on_skrub, "sklearn.model_selection": _on_model_selection}
    for name, action in wanted.items():
        module = sys.modules.get(name)
        if module is None:
            _actions[name] = action
        else:
            action(module)
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def start_from_runner():
    """Take what the runner says from the environment, and leave the environment as it was."""
    global _home, exchange
    _home = os.environ.pop("_STRATUM_HOME", None)
    if _home is None:  # a process that inherited the path only
        return
    path = os.environ.pop("_STRATUM_PYTHONPATH", None)
    if path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = path
    exchange = os.environ.pop("_STRATUM_EXCHANGE", None)
    start()
    if exchange is not None:
        _watch_libraries()


def _watch_libraries():
    """Note what the libraries look like when they are fresh, to see later whether somebody changed them."""
    global patched, libraries
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("_stratum_patched", os.path.join(_home, "scripts", "patched.py"))
    watch = module_from_spec(spec)
    spec.loader.exec_module(watch)
    libraries = watch.LIBRARIES
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in libraries:
            watch.begun()
            watch.ended(name, module)
    patched = watch
