"""The registry of workers, fed by remote control replies, task events and queue statistics.

One module per question: `stats` parses a reply, `processes` assigns it to a process, `worker` holds
the record of one worker, `stall_detection` and `rate_limits` decide whether it consumes and starts
tasks as it should, `state` names its state, and `registry` keeps all workers.
"""
