import json

import numpy as np
import pandas as pd
import skrub
from sklearn.linear_model import Ridge

rng = np.random.default_rng(3)
df = pd.DataFrame({
    "city": rng.choice(["Paris", "Rome", "Oslo", "Bern"], 240),
    "job": rng.choice([f"job {i}" for i in range(60)], 240),
    "age": rng.integers(20, 60, 240),
    "pay": rng.normal(50, 10, 240).round(2),
})

try:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
except ImportError:
    print("no matplotlib: a plot of characters")
    counts, edges = np.histogram(df["pay"], bins=8)
    text = "\n".join(f"{edge:6.2f} {'#' * count}" for edge, count in zip(edges, counts))
    with open("plot.txt", "w") as file:
        file.write(text)
    print(text)
else:
    df["pay"].plot.hist()
    plt.savefig("plot.png")
report = json.loads(skrub.TableReport(df, verbose=0).json())
print(report["n_rows"], [(column["name"], column["dtype"], column["n_unique"]) for column in report["columns"]])
