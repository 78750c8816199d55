"""Load tests: Locust users that check every answer, service levels, reports.

    _scenarios  what is asked, of what, how often      _shapes    how many users, and when
    _world      rows, queries, and what is right       _recorder  times and counts, by the second
    _targets    servers to start, and how to fill one  _gates     service levels and the verdict
    _actor      what a user does, checked              _run       all of it, `vexctl load-test run`

`locustfile.py` is what Locust loads; nothing else here needs Locust.
"""
