class Queries:
    def __init__(self, bench):
        pass
    def suite(self):
        raise RuntimeError("not yet")
