"""What a process does, counted: operations and their times, stages of queries, slow operations.

_cells       numbers in memory, or in a file that other processes read
_observer    counts operations; VexfsAPI's methods are `observed`
_slow        the slowest operations, and a log of slow ones
_trace       where operations meet traces, when there are any: _otel makes them
_waits       what requests of the server wait for
_facts       everything together, as plain values: counters, sizes, memory
_figures     what counters mean: rates, percentiles, shares
_rules       what stands out in them; _contention: what requests waited for too long
_prometheus  the same in the text format of Prometheus; _exporter: a server of it in process
"""
