"""The definitions of all metrics: collector, name, type, labels, help.

The exposition, `docs/metrics.md`, and the checks of dashboards and alert rules use this table.
"""

from __future__ import annotations

from celery_vitals.metrics.base import MetricGroup

exporter = MetricGroup("exporter")
broker = MetricGroup("broker")
backend = MetricGroup("backend")
workers = MetricGroup("workers")
queues = MetricGroup("queues")
tasks = MetricGroup("tasks")

# The exporter itself.  The collector "exporter" is always on.
BUILD_INFO = exporter.info(
    "celery_exporter_build_info",
    "version",
    "python",
    "celery",
    "kombu",
    help="Versions of the exporter, of Python, and of the libraries Celery and kombu; the value is"
    " always 1.",
)
SCRAPE_TIMEOUT = exporter.gauge(
    "celery_scrape_timeout_seconds",
    help="Time limit of this scrape in seconds: Prometheus's scrape timeout minus"
    " --timeout-offset, or --timeout if Prometheus sends none.",
)
COLLECTOR_SUCCESS = exporter.gauge(
    "celery_scrape_collector_success",
    "collector",
    help="Whether the collector's last run succeeded; for the collector tasks, whether the event"
    " stream is live.",
)
COLLECTOR_DURATION = exporter.gauge(
    "celery_scrape_collector_duration_seconds",
    "collector",
    help="Duration of the collector's last run in seconds.",
)
PROBE_FAILURES = exporter.counter(
    "celery_probe_failures_total",
    "collector",
    "reason",
    help="Number of failed runs of the collector since the exporter started, by reason.",
)
PROBE_LAST_SUCCESS = exporter.gauge(
    "celery_probe_last_success_timestamp_seconds",
    "collector",
    help="Unix time of the collector's last successful run.",
)
BLIND_SPOT = exporter.gauge(
    "celery_exporter_blind_spot",
    "subject",
    help="1 for each subject that the exporter cannot observe now; its status page shows the"
    " reason, and the setting that changes it.",
)
HEALTH_STATUS = exporter.gauge(
    "celery_health_status",
    "status",
    help="1 for the exporter's verdict on the cluster, 0 for the other statuses; the path /health"
    " shows the reasons.",
)
HEALTH_FINDING = exporter.gauge(
    "celery_health_finding",
    "code",
    help="Number of findings of the verdict with this code; absent without one.",
)
BROKER_CONNECTIONS = exporter.gauge(
    "celery_exporter_broker_connections",
    help="Number of connections that the exporter has open to the broker.",
)

# Broker.
BROKER_UP = broker.gauge(
    "celery_broker_up",
    help="Whether the broker answered a request over an open connection within the time limit.",
)
BROKER_WRITABLE = broker.gauge(
    "celery_broker_writable",
    help="Whether the broker accepts messages, from a write that changes nothing or from the"
    " broker's own state; absent where it is unknown.",
)
BROKER_UNWRITABLE_REASON = broker.gauge(
    "celery_broker_unwritable_reason",
    "reason",
    help="1 for the reason why the broker accepts no messages, 0 for the other reasons (memory,"
    " disk, blocked, read_only, replicas, persistence, loading, permission).",
)
BROKER_MEMORY_USED = broker.gauge(
    "celery_broker_memory_used_bytes",
    help="Memory that the broker compares with its limit, in bytes; on RabbitMQ that of the node"
    " closest to its limit, from the management API.",
)
BROKER_MEMORY_LIMIT = broker.gauge(
    "celery_broker_memory_limit_bytes",
    help="Memory limit of the broker in bytes: maxmemory of Redis, the high watermark of RabbitMQ;"
    " absent without a limit.",
)
BROKER_EVICTION_POLICY = broker.info(
    "celery_broker_eviction_policy_info",
    "policy",
    help="What Redis deletes at its memory limit (maxmemory-policy); absent without a limit; the"
    " value is always 1.",
)
BROKER_INFO = broker.info(
    "celery_broker_info",
    "transport",
    help="Kind of the broker, as kombu names its transport; the value is always 1.",
)

# Result backend.
BACKEND_UP = backend.gauge(
    "celery_result_backend_up",
    help="Whether a round trip to the result backend succeeded within the time limit; the kind of"
    " backend determines which one.",
)
BACKEND_INFO = backend.info(
    "celery_result_backend_info",
    "backend",
    help="Kind of the result backend, from the scheme of its URL; the value is always 1.",
)

# Workers, from their replies to the remote control command `stats` and `active_queues`.
WORKER_UP = workers.gauge(
    "celery_worker_up",
    "worker",
    help="Whether the worker sent a reply or an event within --worker-timeout, and no offline"
    " event since.",
)
WORKER_STATE = workers.gauge(
    "celery_worker_state",
    "worker",
    "state",
    help="1 for the worker's current state, 0 for the other states (up, busy, not_consuming,"
    " stalled, draining, gone); derived from its replies, its heartbeats and the queues"
    " (docs/workers.md).",
)
WORKER_RESTARTS = workers.counter(
    "celery_worker_restarts_total",
    "worker",
    help="Number of observed restarts of the worker: a new process ID or a lower uptime, from its"
    " `stats` replies, otherwise from its heartbeats.",
)
WORKER_INSTANCES = workers.gauge(
    "celery_worker_instances",
    "worker",
    help="Number of processes that reply under the worker's node name; if it is more than 1, the"
    " worker's other metrics describe one of them.",
)
WORKER_REPLIED = workers.gauge(
    "celery_worker_replied",
    "worker",
    help="Whether the worker replied in the last round of remote control.",
)
WORKER_REPLY = workers.gauge(
    "celery_worker_reply_seconds",
    "worker",
    help="Time from the last remote control request to the worker's reply, in seconds.",
)
WORKER_LAST_SEEN = workers.gauge(
    "celery_worker_last_seen_timestamp_seconds",
    "worker",
    "source",
    help="Unix time, on the exporter's clock, of the worker's last sign of life by source: reply,"
    " heartbeat, or farewell (its offline event).",
)
WORKER_INFO = workers.info(
    "celery_worker_info",
    "worker",
    "pool",
    "version",
    help="Pool implementation (from `stats`) and Celery version (from heartbeats) of the worker;"
    " the value is always 1.",
)
WORKER_START = workers.gauge(
    "celery_worker_start_timestamp_seconds",
    "worker",
    help="Unix time at which the worker's main process started: the time of its `stats` reply"
    " minus the uptime in it.",
)
WORKER_SLOTS = workers.gauge(
    "celery_worker_pool_slots",
    "worker",
    help="Number of tasks that the worker can run concurrently, from its `stats` reply.",
)
WORKER_PREFETCH = workers.gauge(
    "celery_worker_prefetch_limit",
    "worker",
    help="Maximum number of unacknowledged messages that the worker requests from the broker, from"
    " its `stats` reply; 0 means unlimited.",
)
WORKER_ACTIVE = workers.gauge(
    "celery_worker_active_tasks",
    "worker",
    help="Number of tasks that the worker is running, from its last heartbeat.",
)
WORKER_QUEUES = workers.gauge(
    "celery_worker_consumed_queues",
    "worker",
    help="Number of queues that the worker consumes, from its `active_queues` reply.",
)
WORKER_QUEUE_INFO = workers.info(
    "celery_worker_queue_info",
    "worker",
    "queue",
    help="1 for each queue that the worker consumes, from its `active_queues` reply; at most 10000"
    " series.",
)
WORKER_ACCEPTED = workers.counter(
    "celery_worker_tasks_accepted_total",
    "worker",
    "task",
    help="Number of executions that the worker has started since its own start, by task, including"
    " retries and redeliveries, from its `stats` reply.",
    counted=False,
)
WORKER_PROCESSED = workers.counter(
    "celery_worker_processed_total",
    "worker",
    help="Number of executions that the worker has started since its own start, of all tasks, from"
    " its `stats` reply.",
    counted=False,
)
WORKER_CPU = workers.counter(
    "celery_worker_cpu_seconds_total",
    "worker",
    "mode",
    help="CPU time of the worker's main process in seconds, without its pool's child processes,"
    " from its `stats` reply.",
    counted=False,
)
WORKER_MEMORY = workers.gauge(
    "celery_worker_max_resident_memory_bytes",
    "worker",
    help="Peak resident memory of the worker's main process in bytes, without its pool's child"
    " processes, from its `stats` reply.",
)
QUEUE_WORKERS = workers.gauge(
    "celery_queue_workers",
    "queue",
    help="Number of workers that are up and consume the queue, from their `active_queues` replies;"
    " absent instead of 0 while a worker has not reported its queues.",
)
QUEUE_SLOTS = workers.gauge(
    "celery_queue_slots",
    "queue",
    help="Number of tasks that the workers consuming the queue can run concurrently, shared with"
    " the other queues they consume, from their `stats` replies.",
)

# Queues, from the broker.
QUEUE_LENGTH = queues.gauge(
    "celery_queue_length",
    "queue",
    help="Number of messages that wait in the queue, at all priorities, without those delivered to"
    " workers.",
)
QUEUE_UNACKED = queues.gauge(
    "celery_queue_unacked_messages",
    "queue",
    help="Number of messages of the queue that are delivered to workers and not acknowledged.",
)
QUEUE_DELAYED = queues.gauge(
    "celery_queue_delayed_messages",
    "queue",
    help="Number of messages of the queue that the broker delays until a set time (SQS only).",
)
QUEUE_CONSUMERS = queues.gauge(
    "celery_queue_consumers",
    "queue",
    help="Number of consumers of the queue, as counted by the broker.",
)
QUEUE_INFO = queues.info(
    "celery_queue_info",
    "queue",
    "type",
    help="Type of the queue in the broker: classic, quorum, stream or list; the value is always 1.",
)
QUEUE_EVIDENCE = queues.info(
    "celery_queue_evidence_info",
    "queue",
    "evidence",
    help="What proves that the queue is Celery's (setting, worker, event, binding); absent for a"
    " queue that was only found in the broker; the value is always 1 (docs/alerts.md).",
)
QUEUE_DEAD_LETTER_INFO = queues.info(
    "celery_queue_dead_letter_info",
    "queue",
    "dead_letter_queue",
    help="1 for each queue that receives the dead letters of the queue, by arguments, policies and"
    " bindings; dead_letter_queue is empty where they are dropped; at most 10000 series"
    " (RabbitMQ only, from the management API).",
)
QUEUE_PRIORITY_LENGTH = queues.gauge(
    "celery_queue_priority_length",
    "queue",
    "priority",
    help="Number of messages that wait in the queue at one priority step; step 0 is consumed first"
    " (Redis only, with --queue-priorities).",
)
QUEUE_LENGTH_LIMIT = queues.gauge(
    "celery_queue_length_limit",
    "queue",
    help="Number of waiting messages above which the queue is too long, from --queue-limit.",
)
BROKER_DELAYED = queues.gauge(
    "celery_broker_delayed_messages",
    help="Number of messages that wait for their ETA in all queues of RabbitMQ's delayed delivery.",
)
BROKER_UNROUTABLE = queues.counter(
    "celery_broker_unroutable_messages_total",
    help="Number of messages to the virtual host that the broker has dropped since the exporter"
    " started, as no queue was bound: tasks, and also events without a receiver (RabbitMQ only,"
    " from the management API).",
)
BROKER_ORPHANED_REPLIES = queues.gauge(
    "celery_broker_orphaned_reply_queues",
    help="Number of reply queues of remote control without a consumer; on Redis this includes the"
    " queues of commands in progress.",
)
BROKER_UNACKED = queues.gauge(
    "celery_broker_unacked_messages",
    help="Number of messages of all queues that are delivered to workers and not acknowledged,"
    " including those that wait for their ETA (Redis only).",
)
BROKER_OLDEST_UNACKED = queues.gauge(
    "celery_broker_oldest_unacked_timestamp_seconds",
    help="Unix time at which the oldest unacknowledged message was delivered to a worker (Redis"
    " only); absent if there is none.",
)
BROKER_VISIBILITY_TIMEOUT = queues.gauge(
    "celery_broker_visibility_timeout_seconds",
    help="Time in seconds after which Redis redelivers an unacknowledged message, from the"
    " transport options of the exporter or its app, else the shortest that a worker reports.",
)

# The stream of events.
EVENT_STREAM_UP = tasks.gauge(
    "celery_exporter_event_stream_up",
    help="Whether the event stream is live: the last canary event arrived in time.",
)
EVENT_LAG = tasks.gauge(
    "celery_exporter_event_lag_seconds",
    help="Time in seconds that the last canary event took from the exporter through the broker and"
    " back.",
)
EVENTS_RECEIVED = tasks.counter(
    "celery_exporter_events_received_total",
    "type",
    help="Number of events received, by type.",
)
EVENTS_REJECTED = tasks.counter(
    "celery_exporter_events_rejected_total",
    "reason",
    help="Number of events that were received and could not be used, by reason.",
)
EVENTS_MISSED = tasks.counter(
    "celery_exporter_events_missed_total",
    "worker",
    "event",
    help="Number of starts and ends of executions that the worker's heartbeats show and for which"
    " no event was received.",
)
TASKS_IN_FLIGHT = tasks.gauge(
    "celery_exporter_tasks_in_flight",
    help="Number of tasks that the exporter tracks, from their first event until a few seconds"
    " after their end.",
)
TASKS_EVICTED = tasks.counter(
    "celery_exporter_tasks_in_flight_evicted_total",
    help="Number of tasks that the exporter stopped tracking before their end, because of their"
    " number (--max-tasks) or age (--task-forget-after).",
)
SERIES_AGGREGATED = tasks.counter(
    "celery_exporter_series_folded_total",
    "metric",
    help="Number of times that label values were aggregated as `_other` because of a cardinality"
    " limit, by metric.",
)

# Tasks, from their events.
TASK_SENT = tasks.counter(
    "celery_task_sent_total",
    "task",
    "queue",
    help="Number of tasks sent, from task-sent events; requires task_send_sent_event.",
)
TASK_RECEIVED = tasks.counter(
    "celery_task_received_total",
    "task",
    "queue",
    help="Number of tasks received by workers, from task-received events.",
)
TASK_STARTED = tasks.counter(
    "celery_task_started_total",
    "task",
    "queue",
    help="Number of executions started, from task-started events.",
)
TASK_SUCCEEDED = tasks.counter(
    "celery_task_succeeded_total",
    "task",
    "queue",
    help="Number of tasks that succeeded, from task-succeeded events.",
)
TASK_RETRIED = tasks.counter(
    "celery_task_retried_total",
    "task",
    "queue",
    help="Number of retries scheduled, from task-retried events.",
)
TASK_REJECTED = tasks.counter(
    "celery_task_rejected_total",
    "task",
    "queue",
    help="Number of tasks rejected, from task-rejected events.",
)
TASK_FAILED = tasks.counter(
    "celery_task_failed_total",
    "task",
    "queue",
    "exception",
    help="Number of tasks that failed, by exception class, from task-failed events; duplicate"
    " events of one task count once.",
)
TASK_REVOKED = tasks.counter(
    "celery_task_revoked_total",
    "task",
    "queue",
    "reason",
    help="Number of tasks revoked, from task-revoked events, by reason: expired, terminated (while"
    " running) or revoked (before the start).",
)
TASK_REQUEUED = tasks.counter(
    "celery_task_requeued_total",
    "task",
    "queue",
    help="Number of tasks rejected with requeue, which the broker delivers again; those of"
    " celery_task_rejected_total beyond them were discarded.",
)
TASK_RETRIES_EXHAUSTED = tasks.counter(
    "celery_task_retries_exhausted_total",
    "task",
    "queue",
    help="Number of tasks that failed in their last permitted retry (max_retries).",
)
TASK_UNREGISTERED = tasks.counter(
    "celery_task_unregistered_total",
    "task",
    "producer",
    help="Number of messages discarded because the worker has no task of this name; producer is the"
    " host of the task-sent event, empty without one.",
)
CHORD_UNLOCK_RETRIES = tasks.gauge(
    "celery_chord_unlock_max_retries",
    help="Largest number of retries of a celery.chord_unlock task that has not ended: it polls"
    " until all tasks of its chord have ended; absent before the first retry of one.",
)
TASK_LOST = tasks.counter(
    "celery_task_lost_total",
    "task",
    "queue",
    "reason",
    help="Number of executions that started and will not end, by reason: worker_gone,"
    " worker_restarted, child_killed (also counted as failed, with WorkerLostError) or"
    " connection_lost.",
)
TASK_FOUND = tasks.counter(
    "celery_task_found_total",
    "task",
    "queue",
    help="Number of executions counted in celery_task_lost_total that ended or were delivered again"
    " after all.",
)
TASK_REDELIVERED = tasks.counter(
    "celery_task_redelivered_total",
    "task",
    "queue",
    help="Number of executions that ended with their worker and whose message the broker delivered"
    " again, to an execution that started.",
)
TASK_OVERLAPPING = tasks.counter(
    "celery_task_overlapping_total",
    "task",
    "queue",
    "cause",
    help="Number of executions that started while another of the same task id was running, by"
    " cause: visibility_timeout, connection_lost, task_id (sent twice) or unknown.",
)
TASK_REPEATED = tasks.counter(
    "celery_task_repeated_total",
    "task",
    "queue",
    "cause",
    help="Number of executions that started after another of the same task id and retry had ended,"
    " by cause: visibility_timeout, connection_lost, task_id (sent twice) or unknown.",
)
TASK_END_UNKNOWN = tasks.counter(
    "celery_task_end_unknown_total",
    "task",
    "queue",
    "reason",
    help="Number of tasks that are over without an event, by reason: silent (none was missed, as"
    " after Ignore), missed (events were missed), no_message (the message left its queue) or"
    " evicted (no longer tracked).",
)
TASK_RUNTIME = tasks.histogram(
    "celery_task_runtime_seconds",
    "task",
    "queue",
    help="Runtime of tasks that succeeded in seconds, as measured by the worker.",
)
TASK_FAILED_RUNTIME = tasks.histogram(
    "celery_task_failed_runtime_seconds",
    "task",
    "queue",
    help="Runtime of tasks that failed in seconds, from the task-started to the task-failed event.",
)
TASK_WAIT = tasks.histogram(
    "celery_task_queue_wait_seconds",
    "task",
    "queue",
    help="Time in seconds that tasks waited, from being sent (or from their ETA) to their start;"
    " requires task_send_sent_event.",
)
TASK_RUNNING = tasks.gauge(
    "celery_task_running",
    "task",
    help="Number of executions that have started and not ended, from events.",
)
TASK_OLDEST_RUNNING = tasks.gauge(
    "celery_task_oldest_running_start_timestamp_seconds",
    "task",
    help="Unix time at which the oldest running execution of the task started, from events.",
)
TASK_IN_FLIGHT = tasks.gauge(
    "celery_task_in_flight",
    "task",
    "queue",
    "state",
    help="Number of tracked tasks that have not ended, by state: waiting (sent), held (received by"
    " a worker) or running; those in celery_task_orphaned are not included.",
)
TASK_ORPHANED = tasks.gauge(
    "celery_task_orphaned",
    "task",
    "queue",
    help="Number of executions whose worker is gone and of which it is not known yet whether they"
    " are lost or delivered again.",
)
TASK_WITHOUT_SENT_EVENT = tasks.gauge(
    "celery_task_without_sent_event",
    "task",
    "queue",
    help="Number of executions counted whose task-sent event has not been received, less those"
    " whose event named this queue only after their end.",
)
TASK_OLDEST_ORPHANED = tasks.gauge(
    "celery_task_oldest_orphaned_timestamp_seconds",
    "task",
    "queue",
    help="Unix time since which the oldest undecided execution is without its worker.",
)
TASK_POISON = tasks.gauge(
    "celery_task_poison",
    "task",
    "queue",
    help="Number of tracked task ids that have started three times or more without an end.",
)
TASK_POISON_STARTS = tasks.gauge(
    "celery_task_poison_max_starts",
    "task",
    "queue",
    help="Largest number of starts without an end of one of these task ids.",
)
TASK_REQUIRED_VISIBILITY_TIMEOUT = tasks.gauge(
    "celery_task_required_visibility_timeout_seconds",
    "task",
    help="Longest time in seconds between delivery and end of an execution whose message was"
    " delivered again because of the visibility timeout, which must be longer.",
)
TASK_LAST_SENT = tasks.gauge(
    "celery_task_last_sent_timestamp_seconds",
    "task",
    help="Unix time at which the task was last sent, from events.",
)
TASK_LAST_SUCCEEDED = tasks.gauge(
    "celery_task_last_succeeded_timestamp_seconds",
    "task",
    help="Unix time at which the task last succeeded, from events.",
)
TASK_LAST_FAILED = tasks.gauge(
    "celery_task_last_failed_timestamp_seconds",
    "task",
    help="Unix time at which the task last failed, from events.",
)
QUEUE_OLDEST_MESSAGE = tasks.gauge(
    "celery_queue_oldest_message_timestamp_seconds",
    "queue",
    help="Unix time at which the oldest waiting message of the queue was sent: from the timestamp"
    " in the message if the collector queues finds one, otherwise from events, without tasks"
    " that have an ETA, and without the oldest ones in excess of the messages in the queue.",
)

# Workers, from their events.
WORKER_TASK_EVENTS = tasks.gauge(
    "celery_worker_task_events",
    "worker",
    help="Whether the worker sends task events; absent while unknown.",
)
WORKER_CLOCK_OFFSET = tasks.gauge(
    "celery_worker_clock_offset_seconds",
    "worker",
    help="Seconds by which the worker's clock is ahead of the exporter's, less the latency of its"
    " fastest event.",
)

GROUPS = (
    exporter,
    broker,
    backend,
    workers,
    queues,
    tasks,
)
DEFINITIONS = tuple(definition for group in GROUPS for definition in group.definitions)
