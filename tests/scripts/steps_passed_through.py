"""Grids that exchange whole steps of a pipeline; neighbours, components and support vectors; nested searches."""
import numpy as np
import pandas as pd
import skrub
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

digits = load_digits(as_frame=True)
X, _, y, _ = train_test_split(digits.data, digits.target, train_size=240, stratify=digits.target, random_state=0)
pipe = Pipeline([("drop", VarianceThreshold()), ("scale", StandardScaler()), ("reduce", PCA(random_state=0)), ("model", SVC())])
grid = [
    {"reduce": [PCA(random_state=0), TruncatedSVD(random_state=0)], "reduce__n_components": [8, 16], "model__C": [1.0, 10.0]},
    {"reduce": ["passthrough", SelectKBest(k=20)], "scale": [MinMaxScaler(), "passthrough"], "model": [KNeighborsClassifier(3)]},
    {"reduce": ["passthrough"], "model": [LinearDiscriminantAnalysis(), SVC(kernel="linear")]},
]
search = GridSearchCV(pipe, grid, cv=StratifiedKFold(2))
search.fit(X, y)
results = pd.DataFrame(search.cv_results_).sort_values("rank_test_score", kind="stable")
print(results.loc[:, ["params", "mean_test_score", "std_test_score"]].head(6).to_dict("records"))
print(search, repr(search.best_score_))
inner = GridSearchCV(pipe, {"reduce__n_components": [5, 10], "model__gamma": ["scale", 0.01]}, cv=2)
print("nested", cross_val_score(inner, X, y, cv=2).tolist())
print(search.predict(X[:12]).tolist(), y[:12].tolist(), search.score(X, y))
codes = X.assign(row=[f"scan-{i % 30}" for i in range(len(X))])
tabular = Pipeline([("table", skrub.TableVectorizer()), ("model", KNeighborsClassifier())])
outer = GridSearchCV(tabular, {"model__n_neighbors": [1, 5], "model__weights": ["uniform", "distance"]}, cv=2).fit(codes, y)
print(outer.cv_results_["mean_test_score"].tolist(), outer.best_params_)
print(np.round(outer.predict_proba(codes[:2]), 12).tolist())
