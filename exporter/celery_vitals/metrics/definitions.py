"""Every metric of the exporter, declared once: collector, name, type, labels, help.

The exposition, `docs/metrics.md` and the checks of the dashboards and rules are made from this table.
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
    help="Versions of the exporter, of Python and of the libraries it runs on.",
)
SCRAPE_TIMEOUT = exporter.gauge(
    "celery_scrape_timeout_seconds",
    help="The time this scrape was given: the scraper's own timeout less --timeout-offset, else --timeout.",
)
COLLECTOR_SUCCESS = exporter.gauge(
    "celery_scrape_collector_success",
    "collector",
    help="Whether the last run of a collector gave all it can give.",
)
COLLECTOR_DURATION = exporter.gauge(
    "celery_scrape_collector_duration_seconds",
    "collector",
    help="How long the last run of a collector took.",
)
PROBE_FAILURES = exporter.counter(
    "celery_probe_failures_total",
    "collector",
    "reason",
    help="Failed runs of a collector, by reason.",
)
PROBE_LAST_SUCCESS = exporter.gauge(
    "celery_probe_last_success_timestamp_seconds",
    "collector",
    help="When a collector last gave all it can give.",
)
BLIND_SPOT = exporter.gauge(
    "celery_exporter_blind_spot",
    "subject",
    help="1 for each thing that cannot be seen now; the exporter's page says why, and which setting shows it.",
)
BROKER_CONNECTIONS = exporter.gauge(
    "celery_exporter_broker_connections",
    help="Connections that the exporter holds open to the broker.",
)

# Broker.
BROKER_UP = broker.gauge(
    "celery_broker_up",
    help="Whether the broker answered a request sent over an open connection, in time.",
)
BROKER_INFO = broker.info(
    "celery_broker_info",
    "transport",
    help="The broker's kind, by the name kombu gives its transport.",
)

# Result backend.
BACKEND_UP = backend.gauge(
    "celery_result_backend_up",
    help="Whether the result backend took part in a round trip, in time; how, depends on its kind.",
)
BACKEND_INFO = backend.info(
    "celery_result_backend_info",
    "backend",
    help="The result backend's kind, by the scheme of its URL.",
)

# Workers, from their replies to the remote control command `stats` and `active_queues`.
WORKER_UP = workers.gauge(
    "celery_worker_up", "worker", help="Whether a worker was heard of within --worker-timeout."
)
WORKER_STATE = workers.gauge(
    "celery_worker_state",
    "worker",
    "state",
    help="1 for the state a worker is in, and 0 for the others: up, busy, not_consuming, stalled, draining or gone, put"
    " together from its replies, its heartbeats and the queues; up where no other is proven (docs/workers.md).",
)
WORKER_RESTARTS = workers.counter(
    "celery_worker_restarts_total",
    "worker",
    help="Restarts of a worker that were seen: another pid, or an uptime that went back (`stats`, else its heartbeat).",
)
WORKER_INSTANCES = workers.gauge(
    "celery_worker_instances",
    "worker",
    help="How many processes answer under a worker's node name; with more than 1 the other metrics show one of them.",
)
WORKER_REPLIED = workers.gauge(
    "celery_worker_replied",
    "worker",
    help="Whether a worker replied in the last round of remote control.",
)
WORKER_REPLY = workers.gauge(
    "celery_worker_reply_seconds", "worker", help="How long a worker took for its last reply."
)
WORKER_LAST_SEEN = workers.gauge(
    "celery_worker_last_seen_timestamp_seconds",
    "worker",
    "source",
    help="When a worker was last heard of, by the exporter's clock; source is reply, heartbeat or farewell.",
)
WORKER_INFO = workers.info(
    "celery_worker_info",
    "worker",
    "pool",
    "version",
    help="The kind of a worker's pool (`stats`), and the version of its Celery (its heartbeat).",
)
WORKER_START = workers.gauge(
    "celery_worker_start_timestamp_seconds",
    "worker",
    help="When a worker's main process started: the time of its reply less the uptime it gives (`stats`).",
)
WORKER_SLOTS = workers.gauge(
    "celery_worker_pool_slots",
    "worker",
    help="How many tasks a worker can run at the same time (`stats`).",
)
WORKER_PREFETCH = workers.gauge(
    "celery_worker_prefetch_limit",
    "worker",
    help="How many unacknowledged messages a worker asks the broker for (`stats`); 0 is without limit.",
)
WORKER_ACTIVE = workers.gauge(
    "celery_worker_active_tasks", "worker", help="Tasks that a worker runs (its heartbeat)."
)
WORKER_QUEUES = workers.gauge(
    "celery_worker_consumed_queues",
    "worker",
    help="How many queues a worker consumes (`active_queues`).",
)
WORKER_ACCEPTED = workers.counter(
    "celery_worker_tasks_accepted_total",
    "worker",
    "task",
    help="Tasks whose execution a worker has begun since its start, each retry and redelivery included (`stats`).",
)
WORKER_PROCESSED = workers.counter(
    "celery_worker_processed_total",
    "worker",
    help="All tasks whose execution a worker has begun since its start (`stats`).",
)
WORKER_CPU = workers.counter(
    "celery_worker_cpu_seconds_total",
    "worker",
    "mode",
    help="CPU time of a worker's main process, without its pool's children (`stats`).",
)
WORKER_MEMORY = workers.gauge(
    "celery_worker_max_resident_memory_bytes",
    "worker",
    help="The most memory a worker's main process has held, without its pool's children (`stats`).",
)
QUEUE_WORKERS = workers.gauge(
    "celery_queue_workers",
    "queue",
    help="How many of the workers that are up consume a queue (`active_queues`).",
)
QUEUE_SLOTS = workers.gauge(
    "celery_queue_slots",
    "queue",
    help="How many tasks the workers that consume a queue can run at the same time, other queues' tasks included.",
)

# Queues, from the broker.
QUEUE_LENGTH = queues.gauge(
    "celery_queue_length",
    "queue",
    help="Messages that wait in a queue and that no worker holds, all priorities together.",
)
QUEUE_UNACKED = queues.gauge(
    "celery_queue_unacked_messages",
    "queue",
    help="Messages of a queue that workers hold and have not acknowledged.",
)
QUEUE_DELAYED = queues.gauge(
    "celery_queue_delayed_messages",
    "queue",
    help="Messages of a queue that the broker holds back until their time, where it tells (SQS).",
)
QUEUE_CONSUMERS = queues.gauge(
    "celery_queue_consumers", "queue", help="Consumers of a queue by the broker's own count."
)
QUEUE_INFO = queues.info(
    "celery_queue_info",
    "queue",
    "type",
    help="What the broker calls this kind of queue: classic, quorum, stream, list.",
)
QUEUE_PRIORITY_LENGTH = queues.gauge(
    "celery_queue_priority_length",
    "queue",
    "priority",
    help="Messages that wait in a queue at one of its priority steps; 0 goes first (Redis, --queue-priorities).",
)
QUEUE_LENGTH_LIMIT = queues.gauge(
    "celery_queue_length_limit",
    "queue",
    help="The length from which on a queue is too long, as --queue-limit says.",
)
BROKER_DELAYED = queues.gauge(
    "celery_broker_delayed_messages",
    help="Messages that wait for their ETA in the queues of RabbitMQ's delayed delivery, all together.",
)
BROKER_ORPHANED_REPLIES = queues.gauge(
    "celery_broker_orphaned_reply_queues",
    help="Queues for replies to remote control that nobody consumes; on Redis also those of commands under way.",
)
BROKER_UNACKED = queues.gauge(
    "celery_broker_unacked_messages",
    help="Messages of all queues that workers hold and have not acknowledged, those with an ETA included (Redis).",
)
BROKER_OLDEST_UNACKED = queues.gauge(
    "celery_broker_oldest_unacked_timestamp_seconds",
    help="When the oldest unacknowledged message was handed to a worker (Redis); absent when there is none.",
)
BROKER_VISIBILITY_TIMEOUT = queues.gauge(
    "celery_broker_visibility_timeout_seconds",
    help="How long a message may stay unacknowledged before Redis hands it out again, from the settings given.",
)

# The stream of events.
EVENT_STREAM_UP = tasks.gauge(
    "celery_exporter_event_stream_up",
    help="Whether the exporter hears task events: its own canary came back lately.",
)
EVENT_LAG = tasks.gauge(
    "celery_exporter_event_lag_seconds", help="How long the last canary took through the broker."
)
EVENTS_RECEIVED = tasks.counter(
    "celery_exporter_events_received_total", "type", help="Events received, by type."
)
EVENTS_REJECTED = tasks.counter(
    "celery_exporter_events_rejected_total",
    "reason",
    help="Events that could not be used, by reason.",
)
EVENTS_MISSED = tasks.counter(
    "celery_exporter_events_missed_total",
    "worker",
    help="Tasks that a worker has started, by its own count in its heartbeats, and of which no event arrived.",
)
TASKS_IN_FLIGHT = tasks.gauge(
    "celery_exporter_tasks_in_flight",
    help="Tasks that the exporter follows now, until some seconds after their end.",
)
TASKS_EVICTED = tasks.counter(
    "celery_exporter_tasks_in_flight_evicted_total",
    help="Tasks that the exporter has given up following, for their number or their age.",
)
SERIES_FOLDED = tasks.counter(
    "celery_exporter_series_folded_total",
    "metric",
    help="Times that labels were folded into _other, over a cap.",
)

# Tasks, from their events.
TASK_SENT = tasks.counter(
    "celery_task_sent_total",
    "task",
    "queue",
    help="Tasks sent (task-sent); needs task_send_sent_event.",
)
TASK_RECEIVED = tasks.counter(
    "celery_task_received_total", "task", "queue", help="Tasks received (task-received)."
)
TASK_STARTED = tasks.counter(
    "celery_task_started_total", "task", "queue", help="Executions begun (task-started)."
)
TASK_SUCCEEDED = tasks.counter(
    "celery_task_succeeded_total", "task", "queue", help="Tasks succeeded (task-succeeded)."
)
TASK_RETRIED = tasks.counter(
    "celery_task_retried_total", "task", "queue", help="Tasks to be retried (task-retried)."
)
TASK_REJECTED = tasks.counter(
    "celery_task_rejected_total", "task", "queue", help="Tasks rejected (task-rejected)."
)
TASK_FAILED = tasks.counter(
    "celery_task_failed_total",
    "task",
    "queue",
    "exception",
    help="Tasks failed, by the exception's class (task-failed); each once, though Celery may tell it twice.",
)
TASK_REVOKED = tasks.counter(
    "celery_task_revoked_total",
    "task",
    "queue",
    "reason",
    help="Tasks revoked (task-revoked): expired, terminated while it ran, or revoked before it started.",
)
TASK_RUNTIME = tasks.histogram(
    "celery_task_runtime_seconds",
    "task",
    "queue",
    help="How long tasks ran that succeeded, by the worker's own clock.",
)
TASK_FAILED_RUNTIME = tasks.histogram(
    "celery_task_failed_runtime_seconds",
    "task",
    "queue",
    help="How long tasks ran that failed: from started to failed.",
)
TASK_WAIT = tasks.histogram(
    "celery_task_queue_wait_seconds",
    "task",
    "queue",
    help="How long tasks waited: from sent, or from their ETA, to started; needs task_send_sent_event.",
)
TASK_RUNNING = tasks.gauge("celery_task_running", "task", help="Executions begun and not ended.")
TASK_OLDEST_RUNNING = tasks.gauge(
    "celery_task_oldest_running_start_timestamp_seconds",
    "task",
    help="When the oldest running execution began.",
)
TASK_LAST_SENT = tasks.gauge(
    "celery_task_last_sent_timestamp_seconds", "task", help="When a task was last sent."
)
TASK_LAST_SUCCEEDED = tasks.gauge(
    "celery_task_last_succeeded_timestamp_seconds", "task", help="When a task last succeeded."
)
TASK_LAST_FAILED = tasks.gauge(
    "celery_task_last_failed_timestamp_seconds", "task", help="When a task last failed."
)
QUEUE_OLDEST_MESSAGE = tasks.gauge(
    "celery_queue_oldest_message_timestamp_seconds",
    "queue",
    help="When the oldest task that waits in a queue was sent: by the stamp on the message, where the collector queues"
    " finds one, else by its events, which leave out tasks with an ETA.",
)

# Workers, from their events.
WORKER_TASK_EVENTS = tasks.gauge(
    "celery_worker_task_events",
    "worker",
    help="Whether a worker tells of its tasks by events; absent while not known.",
)
WORKER_CLOCK_OFFSET = tasks.gauge(
    "celery_worker_clock_offset_seconds",
    "worker",
    help="How far a worker's clock is ahead of the exporter's; the way of its fastest event counts in.",
)

GROUPS = (exporter, broker, backend, workers, queues, tasks)
DEFINITIONS = tuple(definition for group in GROUPS for definition in group.definitions)
