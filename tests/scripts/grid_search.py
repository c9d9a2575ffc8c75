import pickle

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, y = load_iris(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)
pipe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
print(cross_val_score(pipe, X_train, y_train, cv=StratifiedKFold(3)).round(6))
search = GridSearchCV(pipe, {"logisticregression__C": [0.1, 1.0, 10.0]}, cv=3).fit(X_train, y_train)
print(search)
print(search.best_params_, round(search.best_score_, 6))
print(classification_report(y_test, search.predict(X_test)))
print({k: v.tolist() for k, v in search.cv_results_.items() if "time" not in k and k != "params"})
again = pickle.loads(pickle.dumps(search))
print((again.predict(X_test) == search.predict(X_test)).all(), isinstance(search, GridSearchCV))
GridSearchCV(pipe, {"no_such_parameter": [1]})
LogisticRegression(C=-1).fit(X, y)
