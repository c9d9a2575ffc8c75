"""skrub's search by Optuna, a seeded sampler; then a study of the script's own around cross_val_score."""
import warnings
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import skrub
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.WARNING)
rng = np.random.default_rng(41)
n = 200
df = pd.DataFrame({
    "street": [f"{i % 40} {name} street" for i, name in enumerate(rng.choice(["Main", "Oak", "Pine"], n))],
    "level": rng.integers(0, 10, n), "surface": rng.normal(60, 20, n), "kind": rng.choice(["flat", "house"], n),
})
df["rent"] = 8 * df["surface"] + 100 * (df["kind"] == "house") + 15 * df["level"] + rng.normal(0, 40, n)

data = skrub.var("df", df)
X, y = data.drop(columns="rent").skb.mark_as_X(), data["rent"].skb.mark_as_y()
encoder = skrub.StringEncoder(n_components=skrub.choose_int(2, 5, name="components"), random_state=0)
features = X.skb.apply(skrub.TableVectorizer(high_cardinality=encoder, cardinality_threshold=10)).skb.apply(StandardScaler())
model = skrub.choose_from({
    "ridge": Ridge(alpha=skrub.choose_float(0.01, 100, log=True, name="alpha")),
    "neighbours": KNeighborsRegressor(skrub.choose_int(2, 12, name="k")),
}, name="model")
pred = features.skb.apply(model, y=y)
search = pred.skb.make_randomized_search(
    backend="optuna", n_iter=4, cv=KFold(2, shuffle=True, random_state=0), random_state=0,
    sampler=optuna.samplers.RandomSampler(seed=3), scoring="neg_root_mean_squared_error",
    study_name="rent", storage=f"journal:///{Path('study.log').resolve()}")
search.fit({"df": df})
print(search.results_.to_string())
print(search.best_params_, repr(search.best_score_), len(search.study_.trials))
print(search.predict({"df": df[:3]}).tolist())

table = skrub.TableVectorizer(high_cardinality=skrub.MinHashEncoder(n_components=4)).fit_transform(df.drop(columns="rent"))


def objective(trial):
    alpha = trial.suggest_float("alpha", 1e-2, 1e2, log=True)
    scale = trial.suggest_categorical("scale", [True, False])
    model = make_pipeline(StandardScaler() if scale else "passthrough", Ridge(alpha))
    scores = cross_val_score(model, table, df["rent"], cv=3)
    trial.set_user_attr("folds", scores.tolist())
    return scores.mean()


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=4))
study.optimize(objective, n_trials=6)
for trial in study.trials:
    print(trial.number, trial.params, repr(trial.value), trial.user_attrs["folds"])
columns = [name for name in study.trials_dataframe().columns if "time" not in name and name != "duration"]
study.trials_dataframe()[columns].to_csv("trials.csv", index=False)
Path("study.log").unlink()
