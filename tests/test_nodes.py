"""Several servers, each with a data directory of its own, on one store: what one of them deletes is deleted for all when its caller hears so, and
nothing that any of them acknowledged after that is lost. Takes as long as a DELETE waits for other servers (a minute): SLUICE_SOAK=1."""
import threading

import pytest

from conftest import SOAK

FAST = {"SLUICE_FOLD_INTERVAL": "200ms", "SLUICE_FLUSH_AGE": "100ms", "SLUICE_FLUSH_IDLE": "100ms"}

pytestmark = pytest.mark.skipif(not SOAK, reason="a DELETE with other servers takes a minute")


def numbers(api):
    return sorted(r["n"] for r in api.sql("SELECT n FROM s"))


def test_deleted_for_all(start_server, tmp_path):
    servers = [start_server("--store", str(tmp_path / "store"), env=FAST) for _ in range(3)]
    apis = [s.api for s in servers]
    for round in range(2):
        old = [100 * round + i for i in range(3)]
        for api, n in zip(apis, old):
            api.put("s", {"n": n})
        assert all(api.wait(lambda api=api: numbers(api) == old) for api in apis)
        stop = threading.Event()
        answers = set()

        def send(i):  # while the DELETE runs: 200 or 503, and none of the old stay
            n = 1000 * (round + 1) + 100000 * i
            while not stop.is_set():
                n += 1
                answers.add(apis[i].ingest("s", {"n": n}).status)
                stop.wait(0.5)

        threads = [threading.Thread(target=send, args=(i,)) for i in range(3)]
        for t in threads:
            t.start()
        assert apis[round].delete("s").status == 200
        stop.set()
        for t in threads:
            t.join()
        assert answers <= {200, 503}, answers
        after = [10 ** 7 + 100 * round + i for i in range(3)]
        for api, n in zip(apis, after):  # each of them, at once
            api.put("s", {"n": n})
        for api in apis:
            assert api.wait(lambda api=api: set(after) <= set(numbers(api))), (after, numbers(api))
            assert not set(old) & set(numbers(api))
        if round == 0:
            servers[1].kill()
            servers[1].start()
            assert apis[1].wait(lambda: set(after) <= set(numbers(apis[1])))
            assert apis[2].delete("s").status == 200
