"""Prices paid for houses in England and Wales: reads the file, or makes a table like it.

The schema is that of the reduced file on Kaggle (eleven columns); the full file of HM Land
Registry (sixteen columns, no header) is cut down to it. The generated table has the cardinalities
that matter to encoders: 1,172 towns, 463 districts, 132 counties, and an identifier that is
different in every row. Its prices depend on place, kind and date, so that models have something to
learn. Called by ``uk_housing`` and the benchmarks; imports nothing of stratum or skrub.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

N_TOWNS, N_DISTRICTS, N_COUNTIES = 1_172, 463, 132

COLUMNS = [
    "Transaction unique identifier",
    "Price",
    "Date of Transfer",
    "Property Type",
    "Old/New",
    "Duration",
    "Town/City",
    "District",
    "County",
    "PPDCategory Type",
    "Record Status - monthly file only",
]
# Where these stand among the sixteen columns of the full file.
FULL_POSITIONS = [0, 1, 2, 4, 5, 6, 11, 12, 13, 14, 15]
N_FULL = 16

# The file is in blocks of years; this many places in it are read for a part of it.
N_PLACES = 64


# -- Reading ------------------------------------------------------------------------------------


def read(path: str | Path, rows: int | None = None) -> pd.DataFrame:
    """Read the price-paid file: with Kaggle's header, or without, reduced or full.

    Parameters
    ----------
    path : str or Path
        The file.
    rows : int or None
        How many rows to take. They come from places spread evenly over the file, which is ordered
        by year; reading all of its 22 million rows to draw from them would take a minute.

    Returns
    -------
    DataFrame
        With `COLUMNS`.

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When its columns are neither Kaggle's nor the Land Registry's.
    """
    path = Path(path)
    with path.open("rb") as file:
        first = file.readline()
    if not first.strip():
        raise ValueError(f"{path} is empty")
    head = pd.read_csv(io.BytesIO(first), header=None, dtype=str).iloc[0].tolist()
    skip = 0
    if head == COLUMNS:
        skip, positions = len(first), list(range(len(COLUMNS)))
    elif len(head) == len(COLUMNS) and is_price(head[1]):
        positions = list(range(len(COLUMNS)))
    elif len(head) == N_FULL and is_price(head[1]):
        positions = FULL_POSITIONS
    else:
        raise ValueError(
            f"{path} is not a price-paid file: its first line has {len(head)} fields, which are "
            f"neither the names of Kaggle's {len(COLUMNS)} columns nor a sale of {len(COLUMNS)} "
            f"or {N_FULL} fields"
        )
    text = part_of(path, skip, rows, len(first))
    table = pd.read_csv(text, header=None, usecols=positions, nrows=rows)
    table.columns = pd.Index(COLUMNS)
    return table


def is_price(text: object) -> bool:
    """Whether a field is a whole number."""
    return str(text).isdigit()


def part_of(path: Path, skip: int, rows: int | None, line: int) -> io.BytesIO:
    """Enough whole lines for ``rows``, from places spread over the file, header left out."""
    size = path.stat().st_size - skip
    # Twice what lines of the first one's length would take: their lengths differ.
    wanted = size if rows is None else 2 * rows * line + N_PLACES * line
    with path.open("rb") as file:
        file.seek(skip)
        if wanted >= size:
            return io.BytesIO(file.read())
        parts = []
        for place in range(N_PLACES):
            file.seek(skip + size * place // N_PLACES)
            if place:
                file.readline()  # the rest of the line that this place falls in
            lines, taken = rows_at(rows, place), []
            for _ in range(lines):
                taken.append(file.readline())
            parts += taken
    return io.BytesIO(b"".join(parts))


def rows_at(rows: int | None, place: int) -> int:
    """How many of ``rows`` to take at one place, so that they add up."""
    total = rows or 0
    return total * (place + 1) // N_PLACES - total * place // N_PLACES


# -- Generating ---------------------------------------------------------------------------------


def generate(rows: int, seed: int = 0) -> pd.DataFrame:
    """Make a table with the schema and the cardinalities of the file.

    Parameters
    ----------
    rows : int
        How many sales; from `N_TOWNS` on, every town, district and county occurs.
    seed : int
        The same number gives the same table.

    Returns
    -------
    DataFrame
        With `COLUMNS`; strings as pandas reads them from a file, dates as text.
    """
    if rows < 1:
        raise ValueError(f"at least one row is needed, not {rows}")
    rng = np.random.default_rng(seed)
    towns, districts, counties = names()
    district_of, county_of = hierarchy()

    town = rng.choice(N_TOWNS, size=rows, p=shares(N_TOWNS))
    district = district_of[town]
    # Towns reach into other districts; one sale in eight lies in one next to the town's own.
    near = rng.random(rows) < 1 / 8
    district = np.where(near, (district + rng.integers(1, 4, rows)) % N_DISTRICTS, district)
    if rows >= N_TOWNS:
        places = rng.choice(rows, size=N_TOWNS, replace=False)
        town[places] = np.arange(N_TOWNS)
        district[places] = district_of
    county = county_of[district]

    kind = rng.choice(5, size=rows, p=[0.23, 0.27, 0.30, 0.18, 0.02])
    new = rng.random(rows) < np.where(kind == 3, 0.18, 0.08)
    leasehold = rng.random(rows) < np.where(kind == 3, 0.95, 0.08)
    first_day, last_day = np.datetime64("1995-01-01"), np.datetime64("2017-07-01")
    day = rng.integers(0, (last_day - first_day).astype(int), rows)
    years = day / 365.25
    other = rng.random(rows) < np.where(years > 18.8, 0.16, 0.001)

    effects = np.random.default_rng(1995)  # of the country, not of the sample
    price = 10.95 + effects.normal(0, 0.25, N_COUNTIES)[county]
    price += effects.normal(0, 0.20, N_DISTRICTS)[district]
    price += effects.normal(0, 0.15, N_TOWNS)[town]
    price += np.array([0.48, 0.12, 0.0, -0.05, 0.25])[kind] + 0.14 * new - 0.10 * leasehold
    # Doubling from 1996 to 2004 and a dip after 2008; a little more in summer.
    price += np.interp(years, [0, 1.5, 9.5, 13, 14.2, 22.5], [0, 0.03, 0.95, 1.18, 1.02, 1.38])
    price += 0.02 * np.sin(2 * np.pi * (years % 1 - 0.3))
    price += rng.normal(0, 0.32, rows) + other * rng.normal(-0.1, 0.6, rows)
    price = np.maximum(np.round(np.exp(price) / 50) * 50, 100).astype(np.int64)

    dates = np.datetime_as_string(first_day + day.astype("timedelta64[D]"))
    return pd.DataFrame(
        {
            "Transaction unique identifier": identifiers(rng, rows),
            "Price": price,
            "Date of Transfer": np.char.add(dates, " 00:00"),
            "Property Type": np.array(list("DSTFO"))[kind],
            "Old/New": np.where(new, "Y", "N"),
            "Duration": np.where(leasehold, "L", "F"),
            "Town/City": towns[town],
            "District": districts[district],
            "County": counties[county],
            "PPDCategory Type": np.where(other, "B", "A"),
            "Record Status - monthly file only": np.full(rows, "A"),
        },
        columns=COLUMNS,
    )


def shares(n: int) -> np.ndarray:
    """Probabilities that fall off as the sizes of towns do."""
    weights = 1 / (np.arange(n) + 4.0) ** 0.85
    return weights / weights.sum()


def hierarchy() -> tuple[np.ndarray, np.ndarray]:
    """The district of each town and the county of each district; none is without a town."""
    rng = np.random.default_rng(1086)
    district_of = np.concatenate(
        [rng.permutation(N_DISTRICTS), rng.choice(N_DISTRICTS, N_TOWNS - N_DISTRICTS)]
    )
    county_of = np.concatenate(
        [rng.permutation(N_COUNTIES), rng.choice(N_COUNTIES, N_DISTRICTS - N_COUNTIES)]
    )
    # Neighbours by number lie in one county, as neighbours on a map mostly do.
    return district_of, np.sort(county_of)


def identifiers(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Identifiers in braces, as ``{34222872-B554-4D2B-E053-6B04A8C07729}``; all different.

    Of the 32 digits 24 are drawn and 8 count the rows, scrambled by an odd factor, which is a
    one-to-one map of the 32-bit numbers.
    """
    counted = (np.arange(rows, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(2**32)
    drawn = rng.integers(0, 256, size=(rows, 12), dtype=np.uint8)
    tail = counted.astype(">u4").view(np.uint8).reshape(rows, 4)
    data = np.concatenate([drawn, tail], axis=1).tobytes()
    digits = np.frombuffer(data.hex().upper().encode(), dtype="S1").reshape(rows, 32)
    text = np.full((rows, 38), b"-", dtype="S1")
    text[:, 0], text[:, 37] = b"{", b"}"
    start = 0
    for at, length in ((1, 8), (10, 4), (15, 4), (20, 4), (25, 12)):
        text[:, at : at + length] = digits[:, start : start + length]
        start += length
    return text.view("S38").ravel().astype(str)


STEMS = (
    "ASH BARN BECK BRAD BRIDGE BROM BUCK CALD CANTER CARL CHAT CHEL CLEE COL CREW CROW DART DEN "
    "DOR DUN EAST ELM EVER FARN FEL GAINS GLOSS GRAN GUILD HALE HART HAVER HEX HOLM HORN HUNT IL "
    "KEN KIDDER KING LANG LEIGH LIN LUT MAL MANS MARL MEL MID NEW NOR NUN OAK OLD OTTER PEN PETER "
    "PICK RAM RED RIP ROTHER RUG SAL SAND SCAR SEDGE SHAF SHEP SKIP SOUTH STAM STOCK SUD SWAN TAD "
    "TEN THET THORN TOT TROW UCK UPPER WAKE WAL WARE WELL WEST WHIT WIN WOOD WORK YAR"
).split()
ENDINGS = (
    "BOROUGH BOURNE BRIDGE BURY BY CASTER CESTER COMBE COTE DALE DON FIELD FORD GATE HAM HURST "
    "LEY MINSTER MOUTH POOL PORT STEAD STOKE THORPE TON WELL WICK WOOD WORTH"
).split()
BEFORE = ("GREAT", "LITTLE", "MARKET", "CHIPPING", "BISHOP'S", "ST", "NORTH", "SOUTH", "ABBOTS")
AFTER = ("ON-SEA", "UPON TRENT", "REGIS", "SPA", "ST MARY", "IN ARDEN", "MAGNA", "UNDER WOOD")


def names() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names of towns, districts and counties; within each kind all are different."""
    rng = np.random.default_rng(1066)
    simple = np.array(sorted({stem + ending for stem in STEMS for ending in ENDINGS}))
    rng.shuffle(simple)
    towns = list(simple[: N_TOWNS * 3 // 4])
    taken = set(towns)
    for at, name in enumerate(simple[N_TOWNS * 3 // 4 : N_TOWNS]):
        before, after = BEFORE[at % len(BEFORE)], AFTER[at % len(AFTER)]
        towns.append(f"{before} {name}" if at % 2 else f"{name} {after}")
    assert len(set(towns)) == N_TOWNS and taken <= set(towns)
    spare = list(simple[N_TOWNS:])

    forms = ("{}", "CITY OF {}", "{} AND {}", "NORTH {}", "{} FOREST", "MID {}", "{}", "SOUTH {}")
    districts = [
        forms[at % len(forms)].format(towns[at], spare[at]) for at in range(N_DISTRICTS)
    ]
    endings = ("{}SHIRE", "GREATER {}", "{}", "WEST {}", "EAST {}SHIRE", "THE ISLE OF {}")
    counties = [
        endings[at % len(endings)].format(spare[N_DISTRICTS + at]) for at in range(N_COUNTIES)
    ]
    return (
        np.array(towns, dtype=str),
        np.array(districts, dtype=str),
        np.array(counties, dtype=str),
    )
