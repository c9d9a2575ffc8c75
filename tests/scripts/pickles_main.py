import dataclasses
import pickle


@dataclasses.dataclass
class Run:
    name: str
    score: float

    def better(self, other):
        return self.score > other.score


if __name__ == "__main__":
    data = pickle.dumps([Run("a", 0.5), Run("b", 0.75)])
    print(data)
    print(sorted(pickle.loads(data), key=lambda r: r.score), pickle.loads(pickle.dumps(Run)) is Run)
