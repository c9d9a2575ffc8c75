"""Configuration: skrub's options and the engine's through one door."""

from __future__ import annotations

import threading
import warnings

import forks
import numpy as np
import pytest
import sklearn
import skrub as plain_skrub

from stratum import _config
from stratum._config import apply, config_context, get_config, option, set_config, snapshot

OURS = {
    "engine": "stratum",
    "n_threads": None,
    "unseeded": "derived",
    "seed": 0,
    "exactness": "equivalent",
    "native": True,
    "verify": False,
    "progress": None,
    "reuse": None,
    "reuse_bytes": None,
    "reuse_seconds": 0.005,
    "store": None,
    "store_bytes": 10 << 30,
}


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """Each test starts from the built-in defaults and leaves this thread as it found it."""
    before = snapshot()
    monkeypatch.setattr(_config, "_environment_errors", [])
    _config._thread_options().update(OURS)
    yield
    monkeypatch.undo()
    apply(before)


def in_thread(function):
    """The result of a function in a new thread."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    assert len(results) == 1, "the thread raised"
    return results[0]


def test_has_both():
    config = get_config()
    assert {name: config[name] for name in OURS} == OURS
    assert {k: v for k, v in config.items() if k not in OURS} == _config._skrub_get_config()


def test_no_name_in_both():
    assert not set(OURS) & set(_config._SKRUB_NAMES)


@pytest.mark.parametrize(
    "name, value",
    [
        ("engine", "skrub"),
        ("n_threads", 3),
        ("unseeded", "independent"),
        ("seed", 2**32 - 1),
        ("verify", True),
        ("progress", False),
        ("subsampling_seed", 7),
        ("table_report_n_rows", 5),
        ("enable_subsampling", "force"),
        ("eager_data_ops", False),
        ("target_cache_size", None),
    ],
)
def test_set_one_leaves_the_others(name, value):
    before = get_config()
    assert before[name] != value
    set_config(**{name: value})
    assert get_config() == {**before, name: value}


def test_round_trip():
    set_config(n_threads=2, progress=True, float_precision=5)
    config = get_config()
    set_config(n_threads=4, progress=None, float_precision=6)
    set_config(**config)
    assert get_config() == config


def test_returned_dict_is_a_copy():
    get_config()["engine"] = "skrub"
    assert option("engine") == "stratum"


def test_skrub_sees_its_options_and_we_see_its_changes():
    set_config(subsampling_seed=11)
    assert _config._skrub_get_config()["subsampling_seed"] == 11
    _config._skrub_set_config(subsampling_seed=12)
    assert get_config()["subsampling_seed"] == 12


def test_positional_arguments_are_skrubs():
    set_config(False, 3)
    config = get_config()
    assert config["use_table_report_data_ops"] is False
    assert config["table_report_plots_threshold"] == 3


def test_skrub_none_leaves_as_is():
    set_config(float_precision=4)
    set_config(float_precision=None)
    assert get_config()["float_precision"] == 4


def test_numpy_scalars_become_plain():
    set_config(n_threads=np.int64(2), seed=np.uint8(9), verify=np.bool_(True))
    assert [type(option(name)) for name in ("n_threads", "seed", "verify")] == [int, int, bool]


@pytest.mark.parametrize(
    "name, value",
    [
        ("engine", "spark"),
        ("engine", None),
        ("engine", ["stratum"]),
        ("n_threads", 0),
        ("n_threads", -1),
        ("n_threads", 2.0),
        ("n_threads", True),
        ("n_threads", "2"),
        ("unseeded", "random"),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", None),
        ("exactness", "nearly"),
        ("exactness", None),
        ("native", "yes"),
        ("verify", 1),
        ("verify", None),
        ("progress", "yes"),
        ("progress", np.array([True, False])),
    ],
)
@pytest.mark.parametrize("how", ["set_config", "config_context"])
def test_bad_value(how, name, value):
    before = get_config()
    with pytest.raises(ValueError) as error:
        if how == "set_config":
            set_config(**{name: value})
        else:
            with config_context(**{name: value}):
                pytest.fail("entered")
    text = str(error.value)
    assert repr(name) in text and _config._OPTIONS[name].allowed in text and repr(value) in text
    assert get_config() == before


@pytest.mark.parametrize("function", [set_config, config_context])
def test_unknown_name(function):
    with pytest.raises(TypeError) as error:
        function(n_thread=2)
    text = str(error.value)
    assert text.startswith(f"{function.__name__}() got an unexpected keyword argument 'n_thread'")
    assert "Did you mean 'n_threads'?" in text
    for name in {*OURS, *_config._skrub_get_config()}:
        assert name in text


def test_skrub_error_is_skrubs_and_leaves_ours():
    with pytest.raises(ValueError) as ours:
        set_config(enable_subsampling="often", engine="skrub")
    with pytest.raises(ValueError) as theirs:
        _config._skrub_set_config(enable_subsampling="often")
    assert str(ours.value) == str(theirs.value)
    assert option("engine") == "stratum"


def test_our_error_leaves_skrubs():
    before = get_config()
    with pytest.raises(ValueError, match="'engine' must be one of"):
        set_config(float_precision=9, engine="x")
    assert get_config() == before


def test_deprecated_name_warns_at_the_caller():
    with pytest.warns(DeprecationWarning, match="max_plot_columns") as caught:
        set_config(max_plot_columns=4)
    assert [warning.filename for warning in caught] == [__file__]
    assert get_config()["table_report_plots_threshold"] == 4


def test_context():
    before = get_config()
    with config_context(engine="skrub", float_precision=8) as value:
        assert value is None
        assert get_config() == {**before, "engine": "skrub", "float_precision": 8}
        with config_context(engine="stratum", seed=5):
            assert option("engine") == "stratum"
        assert option("engine") == "skrub" and option("seed") == 0
    assert get_config() == before


def test_context_restores_on_exception():
    before = get_config()
    with pytest.raises(KeyError, match="inside"):
        with config_context(n_threads=1, float_precision=8):
            set_config(seed=3, table_report_n_rows=2)
            raise KeyError("inside")
    assert get_config() == before


def test_context_undoes_what_was_set_inside():
    before = get_config()
    with config_context():
        set_config(seed=3, table_report_n_rows=2)
    assert get_config() == before


def test_context_decorates():
    @config_context(engine="skrub")
    def engine():
        return option("engine")

    assert [engine(), option("engine"), engine()] == ["skrub", "stratum", "skrub"]


def test_another_thread_sees_the_defaults():
    set_config(engine="skrub", subsampling_seed=99)
    other = in_thread(get_config)
    assert other["engine"] == _config._defaults["engine"]
    assert other["subsampling_seed"] != 99
    in_thread(lambda: set_config(n_threads=5))
    assert option("n_threads") is None


def test_snapshot_carries_all_three():
    set_config(engine="skrub", seed=4, subsampling_seed=99, target_cache_size=None)
    with sklearn.config_context(transform_output="pandas", working_memory=17):
        carried = snapshot()
        expected = get_config(), sklearn.get_config()

        def worker():
            bare = get_config(), sklearn.get_config()
            apply(carried)
            return bare, (get_config(), sklearn.get_config())

        bare, got = in_thread(worker)
    assert got == expected
    assert bare[0] != expected[0] and bare[1] != expected[1]


def test_snapshot_is_not_changed_by_later_settings():
    carried = snapshot()
    set_config(engine="skrub", subsampling_seed=99)
    apply(carried)
    set_config(seed=6)
    assert carried.stratum["seed"] == 0
    assert get_config()["engine"] == "stratum" and get_config()["subsampling_seed"] != 99


def test_apply_restores_skrubs_deprecated_free():
    set_config(cache=None, data_dir="/nowhere/in/particular")
    carried = snapshot()
    set_config(cache=False, data_dir="/elsewhere")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply(carried)
    assert get_config()["cache"] is None
    assert get_config()["data_dir"] == carried.skrub["data_dir"]


@pytest.mark.parametrize(
    "variable, text, name, value",
    [
        ("STRATUM_ENGINE", "skrub", "engine", "skrub"),
        ("STRATUM_N_THREADS", "4", "n_threads", 4),
        ("STRATUM_N_THREADS", "None", "n_threads", None),
        ("STRATUM_N_THREADS", "", "n_threads", None),
        ("STRATUM_UNSEEDED", "independent", "unseeded", "independent"),
        ("STRATUM_SEED", "123", "seed", 123),
        ("STRATUM_VERIFY", "True", "verify", True),
        ("STRATUM_VERIFY", "0", "verify", False),
        ("STRATUM_EXACTNESS", "identical", "exactness", "identical"),
        ("STRATUM_NATIVE", "0", "native", False),
        ("STRATUM_PROGRESS", "false", "progress", False),
        ("STRATUM_PROGRESS", "none", "progress", None),
    ],
)
def test_environment(variable, text, name, value):
    defaults, errors = _config._from_environment({variable: text})
    assert errors == []
    assert defaults == {**OURS, name: value}


@pytest.mark.parametrize(
    "variable, text, allowed",
    [
        ("STRATUM_ENGINE", "spark", "'stratum', 'skrub'"),
        ("STRATUM_N_THREADS", "0", "None, a positive integer"),
        ("STRATUM_N_THREADS", "many", "None, a positive integer"),
        ("STRATUM_UNSEEDED", "Derived", "'derived', 'independent'"),
        ("STRATUM_SEED", "-3", "an integer from 0 to 4294967295"),
        ("STRATUM_VERIFY", "maybe", "True, False"),
        ("STRATUM_EXACTNESS", "exact", "'identical', 'equivalent', 'approximate'"),
        ("STRATUM_NATIVE", "gcc", "True, False"),
        ("STRATUM_PROGRESS", "2", "None, True, False"),
    ],
)
def test_bad_environment_is_said_at_first_use(monkeypatch, variable, text, allowed):
    defaults, errors = _config._from_environment({variable: text})
    assert defaults == OURS and len(errors) == 1
    monkeypatch.setattr(_config, "_environment_errors", errors)
    uses = [
        get_config,
        lambda: set_config(seed=1),
        lambda: option("engine"),
        snapshot,
        config_context().__enter__,
    ]
    for use in uses:
        with pytest.raises(ValueError) as error:
            use()
        assert variable in str(error.value)
        assert repr(text) in str(error.value)
        assert allowed in str(error.value)


def test_environment_is_read_at_import():
    script = (
        "from stratum import _config\n"
        "print(_config.option('n_threads'), _config.option('engine'))\n"
        "import threading\n"
        "t = threading.Thread(target=lambda: print(_config.option('n_threads')))\n"
        "t.start(); t.join()\n"
    )
    done = forks.run(script, env={**_environment(), "STRATUM_N_THREADS": "3"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["3", "stratum", "3"]


def test_bad_environment_leaves_the_import_whole():
    script = (
        "from stratum import _config\n"
        "print('imported')\n"
        "try:\n"
        "    _config.get_config()\n"
        "except ValueError as e:\n"
        "    print(e)\n"
    )
    done = forks.run(script, env={**_environment(), "STRATUM_SEED": "x", "STRATUM_ENGINE": "y"})
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "imported"
    assert "STRATUM_SEED" in second and "STRATUM_ENGINE" in second


def _environment():
    """This process's environment without the engine's variables."""
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith("STRATUM_")}


def test_public_functions_of_skrub_are_what_is_delegated_to():
    assert _config._skrub_get_config is plain_skrub.get_config
