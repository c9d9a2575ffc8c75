import numpy as np
import pandas as pd
from skrub import TableVectorizer, tabular_pipeline

rng = np.random.default_rng(2)
df = pd.DataFrame({
    "city": rng.choice(["Paris", "Rome", "Oslo"], 200),
    "hired": pd.date_range("2020-01-01", periods=200, freq="37h").astype(str),
    "pay": rng.normal(50, 10, 200),
})
vectorizer = TableVectorizer()
out = vectorizer.fit_transform(df)
print(out.head(), out.dtypes, sep="\n")
print(vectorizer)
print(tabular_pipeline("regressor"))
TableVectorizer().fit_transform(df.drop(columns=df.columns)[:0].assign(x=object()))
