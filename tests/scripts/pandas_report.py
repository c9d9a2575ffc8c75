"""Sales by region and month, as a table and a file."""
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
sales = pd.DataFrame({
    "day": pd.date_range("2024-01-01", periods=300, freq="D"),
    "region": rng.choice(["north", "south", None], 300),
    "amount": rng.gamma(2.0, 50.0, 300).round(2),
})
sales.to_csv("sales.csv", index=False)
again = pd.read_csv("sales.csv", parse_dates=["day"])
assert again.equals(sales)
table = again.groupby([again["day"].dt.month, "region"], dropna=False)["amount"].agg(["mean", "sum", "count"])
print(table.head(8).to_string())
print(again.describe(include="all"))
again.info()
table.to_json("table.json")
print(pd.read_csv.__module__, pd.read_csv.__qualname__)
again["amont"]
