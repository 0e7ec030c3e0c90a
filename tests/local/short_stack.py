"""`thermocline up` with a shorter life of functions than its options offer: the grace for chunks follows it."""

from __future__ import annotations

import signal
import sys
from typing import Any

from infra.local.stack import LocalOptions, LocalStack


def main(port: str, archive_after_s: str, hot_retention_s: str, grace_s: str) -> None:
    """Run a local stack until SIGTERM."""
    options = LocalOptions(
        port=int(port),
        bucket_s=600,
        window_s=0.5,
        parallelization=1,
        archive_after_s=int(archive_after_s),
        hot_retention_s=int(hot_retention_s),
        grace_s=int(grace_s),
    )

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    stack = LocalStack(options)
    try:
        stack.start(lambda text: None)
        stack.wait()
    finally:
        stack.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
