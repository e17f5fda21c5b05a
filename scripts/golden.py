"""Write tests/contract/golden/*.json anew, from the real instrumentors. Read the difference before you commit it."""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "instrumentation")]

from tests.support import golden, servers  # noqa: E402


def main() -> None:
    with servers.postgres() as postgres, servers.valkey() as valkey:
        found = golden.transactions("http,database", postgres.url, valkey.url)
        changed = golden.store(golden.normalised(found, postgres.url, valkey.url))
    print("changed:", ", ".join(changed) or "nothing")


main()
