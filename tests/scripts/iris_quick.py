"""As short as a search can be: over before the engine is worth loading."""
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

X, y = load_iris(return_X_y=True)
search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3, 5]}, cv=3).fit(X, y)
print(search.best_params_, search.cv_results_["mean_test_score"].tolist())
print(cross_val_score(search.best_estimator_, X, y, cv=5).tolist())
