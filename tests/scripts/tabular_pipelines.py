"""skrub's ready pipelines, one learner after the other, on a messy table read from a CSV."""
import io

import numpy as np
import pandas as pd
from skrub import Cleaner, DatetimeEncoder, MinHashEncoder, StringEncoder, TableVectorizer, tabular_pipeline
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline

np.random.seed(1)  # for encoders without a seed
rng = np.random.default_rng(55)
n = 220
dirty = pd.DataFrame({
    "employee": [f"{t} {k}" for t, k in zip(rng.choice(["Police Officer", "police offcer", "Fire Fighter", "Librarian"], n), rng.integers(1, 14, n))],
    "hired": rng.choice(pd.date_range("1999-05-01", periods=400, freq="9D").strftime("%m/%d/%Y"), n),
    "gender": rng.choice(["F", "M", "N/A", ""], n), "grade": rng.choice(["1", "2", "3", "?"], n),
    "rate": [f"{v:.2f}" for v in rng.normal(30, 5, n)], "constant": "x", "empty": None,
})
text = dirty.to_csv(index=False)
df = pd.read_csv(io.StringIO(text), na_values=["?"])
y = (df["employee"].str.lower().str.startswith("police") ^ (df["rate"] > 33)).map({True: "high", False: "low"})
print(Cleaner(drop_if_constant=True).fit_transform(df).dtypes.to_string())
cv = StratifiedKFold(2, shuffle=True, random_state=0)
learners = {
    "logistic": LogisticRegression(max_iter=300), 
    "boosting": HistGradientBoostingClassifier(max_iter=5, random_state=0),
}
summary = []
for name, learner in learners.items():
    pipe = tabular_pipeline(learner)
    out = cross_validate(pipe, df, y, cv=cv, scoring=["accuracy", "f1_macro"])
    summary.append((name, out["test_accuracy"].mean(), out["test_f1_macro"].mean()))
    print(name, out["test_accuracy"].tolist(), out["test_f1_macro"].tolist())
encoders = {
    "string": StringEncoder(n_components=4, random_state=0), "minhash": MinHashEncoder(n_components=6),
}
for name, encoder in encoders.items():
    vectorizer = TableVectorizer(high_cardinality=encoder, datetime=DatetimeEncoder(resolution="month"), cardinality_threshold=8)
    scores = cross_val_score(make_pipeline(vectorizer, HistGradientBoostingClassifier(max_iter=3, random_state=0)), df, y, cv=cv)
    summary.append((name, scores.mean(), scores.std()))
    print(name, scores.tolist())
words = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3)), LogisticRegression())
print("tfidf", cross_val_score(words, df["employee"], y, cv=cv).tolist())
fitted = tabular_pipeline(learners["logistic"]).fit(df, y)
print(fitted[:-1].get_feature_names_out().tolist()[:12], fitted.predict_proba(df[:2]).tolist())
pd.DataFrame(summary, columns=["name", "score", "other"]).to_csv("summary.csv", index=False)
