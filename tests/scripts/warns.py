import warnings


def old():
    warnings.warn("old() is deprecated, use new()", DeprecationWarning, stacklevel=2)
    warnings.warn("the data look odd")
    return 1


for _ in range(3):
    old()
warnings.simplefilter("error", RuntimeWarning)
try:
    warnings.warn("now an error", RuntimeWarning)
except RuntimeWarning as error:
    print("caught", error)
warnings.warn("at the top", stacklevel=5)
print(len(warnings.filters), warnings.filters[0][0])
