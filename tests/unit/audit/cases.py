"""For each rule a project that has its problem, and one that has not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from celery.schedules import crontab
from kombu import Exchange, Queue

from celery_vitals.audit.facts import Facts, WorkerFacts
from celery_vitals.brokers.server_facts import HeldTask, ServerFacts
from tests.support.auditing import RABBITMQ, REDIS, facts_of, on_rabbitmq, queue

Case = Callable[[], Facts]
LATE = {"shop.pay": {"acks_late": True}}
ONE: Mapping[str, Mapping[str, object]] = {"shop.pay": {}}
AUTO = {"autoretry_for": (ValueError,)}
QUORUM = {"x-queue-type": "quorum"}
INFO: Mapping[str, str | int | float] = {
    "maxmemory_policy": "noeviction",
    "maxmemory": 100,
    "used_memory": 10,
    "role": "master",
}
W1 = WorkerFacts("w1@a", "prefork", slots=2, prefetch=8, queues=frozenset({"celery"}))


def held(hours: float) -> ServerFacts:
    eta = datetime.now(timezone.utc) + timedelta(hours=hours)
    return ServerFacts(held=(HeldTask("shop.pay", eta.isoformat()),))


def worker(name: str = "w1@a", pool: str = "prefork", **more: object) -> WorkerFacts:
    return WorkerFacts(name, pool, **{"queues": frozenset({"celery"}), **more})  # type: ignore[arg-type]


def redis(**info: str | int) -> ServerFacts:
    config = {"save": "3600 1", "appendonly": "yes"}
    return ServerFacts(version="7.0.0", info={**INFO, **info}, config=config)


def redis_config(**config: str) -> ServerFacts:
    names = {name.replace("_", "-"): value for name, value in config.items()}
    return ServerFacts(info=INFO, config={"save": "3600 1", "appendonly": "yes", **names})


def timeouts(seconds: float) -> dict[str, object]:
    return {"broker_transport_options": {"visibility_timeout": seconds}}


def schedule(**entry: object) -> dict[str, object]:
    full = {"task": "shop.pay", "schedule": 3600.0, **entry}
    return {"beat_schedule": {"nightly": full}}


def quorum(exchange_type: str = "direct") -> dict[str, object]:
    exchange = Exchange("reports", type=exchange_type)
    return {
        "task_queues": [Queue("reports", exchange, routing_key="r", queue_arguments=dict(QUORUM))],
        "task_default_queue": "reports",
    }


CASES: Mapping[str, tuple[Case, Case]] = {
    # delays
    "visibility_timeout_below_eta": (
        lambda: facts_of(timeouts(3600), server=held(7)),
        lambda: facts_of(timeouts(36000), server=held(7)),
    ),
    "visibility_timeout_below_retry_delay": (
        lambda: facts_of({}, {"shop.pay": {"default_retry_delay": 7200}}),
        lambda: facts_of({}, {"shop.pay": {"default_retry_delay": 180}}),
    ),
    "visibility_timeout_below_time_limit": (
        lambda: facts_of({}, {"shop.pay": {"acks_late": True, "time_limit": 7200}}),
        lambda: facts_of({}, {"shop.pay": {"acks_late": False, "time_limit": 7200}}),
    ),
    "visibility_timeout_below_runtime": (
        lambda: replace(facts_of(timeouts(100)), running={"shop.pay": 90.0}),
        lambda: replace(facts_of(timeouts(100)), running={"shop.pay": 70.0}),
    ),
    "visibility_timeout_below_countdown": (
        lambda: facts_of(schedule(options={"countdown": 7200})),
        lambda: facts_of(schedule(options={"countdown": 60})),
    ),
    "visibility_timeouts_differ": (
        lambda: facts_of(
            workers=(
                worker(visibility_timeout=3600.0),
                worker("w2@a", visibility_timeout=43200.0),
            )
        ),
        lambda: facts_of(workers=(worker(visibility_timeout=3600.0), worker("w2@a"))),
    ),
    "visibility_timeout_long": (
        lambda: facts_of(timeouts(200000)),
        lambda: facts_of(timeouts(43200)),
    ),
    "rabbitmq_consumer_timeout": (
        lambda: facts_of(
            {},
            {"shop.pay": {"acks_late": True, "time_limit": 3600}},
            broker=RABBITMQ,
            server=on_rabbitmq(),
        ),
        lambda: facts_of(
            {},
            {"shop.pay": {"acks_late": True, "time_limit": 3600}},
            broker=RABBITMQ,
            server=on_rabbitmq(queue("celery", arguments={"x-consumer-timeout": 7200000})),
        ),
    ),
    "eta_on_quorum_queue": (
        lambda: facts_of(quorum(), broker=RABBITMQ),
        lambda: facts_of(quorum("topic"), broker=RABBITMQ),
    ),
    "quorum_detection_off": (
        lambda: facts_of({**quorum(), "worker_detect_quorum_queues": False}, broker=RABBITMQ),
        lambda: facts_of(quorum(), broker=RABBITMQ),
    ),
    # delivery
    "acks_late_without_reject": (
        lambda: facts_of({}, LATE),
        lambda: facts_of({}, {"shop.pay": {"acks_late": True, "reject_on_worker_lost": True}}),
    ),
    "reject_on_worker_lost_unlimited": (
        lambda: facts_of({}, {"shop.pay": {"acks_late": True, "reject_on_worker_lost": True}}),
        lambda: facts_of(
            {},
            {
                "shop.pay": {
                    "acks_late": True,
                    "reject_on_worker_lost": True,
                    "retry_on_worker_lost": True,
                }
            },
        ),
    ),
    "reject_without_acks_late": (
        lambda: facts_of({"task_reject_on_worker_lost": True}, ONE),
        lambda: facts_of({"task_reject_on_worker_lost": True, "task_acks_late": True}, ONE),
    ),
    "timeout_requeues": (
        lambda: facts_of({"task_acks_on_failure_or_timeout": False, "task_time_limit": 60}, LATE),
        lambda: facts_of({"task_time_limit": 60}, LATE),
    ),
    "failure_drops_message": (
        lambda: facts_of({"task_acks_on_failure_or_timeout": False}, LATE),
        lambda: facts_of(
            {
                "task_acks_on_failure_or_timeout": False,
                "task_queues": [
                    Queue("celery", queue_arguments={"x-dead-letter-exchange": "dead"})
                ],
            },
            LATE,
            broker=RABBITMQ,
        ),
    ),
    "late_tasks_continue_after_disconnect": (
        lambda: facts_of({}, LATE, broker=RABBITMQ),
        lambda: facts_of({}, LATE, broker=REDIS),
    ),
    "retries_forever": (
        lambda: facts_of({}, {"shop.pay": {**AUTO, "max_retries": None}}),
        lambda: facts_of({}, {"shop.pay": {**AUTO, "max_retries": 5}}),
    ),
    "retries_without_delay": (
        lambda: facts_of({}, {"shop.pay": {**AUTO, "default_retry_delay": 0}}),
        lambda: facts_of(
            {}, {"shop.pay": {**AUTO, "default_retry_delay": 0, "retry_backoff": True}}
        ),
    ),
    "publish_retry_off": (
        lambda: facts_of({"task_publish_retry": False}),
        lambda: facts_of(),
    ),
    "messages_not_persistent": (
        lambda: facts_of({"task_default_delivery_mode": 1}, broker=RABBITMQ),
        lambda: facts_of({"task_default_delivery_mode": 1}, broker=REDIS),
    ),
    "publishes_not_confirmed": (
        lambda: facts_of(broker=RABBITMQ),
        lambda: facts_of({"broker_transport_options": {"confirm_publish": True}}, broker=RABBITMQ),
    ),
    # limits
    "no_time_limit": (
        lambda: facts_of({}, ONE),
        lambda: facts_of({"task_time_limit": 60}, ONE),
    ),
    "soft_limit_not_below_hard": (
        lambda: facts_of({"task_time_limit": 60}, {"shop.pay": {"soft_time_limit": 60}}),
        lambda: facts_of({"task_time_limit": 60}, {"shop.pay": {"soft_time_limit": 50}}),
    ),
    "time_limit_without_effect": (
        lambda: facts_of({"task_time_limit": 60}, ONE, workers=(worker(pool="threads"),)),
        lambda: facts_of({"task_time_limit": 60}, ONE, workers=(worker(),)),
    ),
    "prefetch_of_long_tasks": (
        lambda: facts_of({}, {"shop.pay": {"time_limit": 900}}, workers=(W1,)),
        lambda: facts_of({}, {"shop.pay": {"time_limit": 60}}, workers=(W1,)),
    ),
    "prefetch_unlimited": (
        lambda: facts_of({"worker_prefetch_multiplier": 0}),
        lambda: facts_of({"worker_prefetch_multiplier": 1}),
    ),
    "disable_prefetch_without_effect": (
        lambda: facts_of({"worker_disable_prefetch": True}, broker=RABBITMQ),
        lambda: facts_of({"worker_disable_prefetch": True}, broker=REDIS),
    ),
    "rate_limit_per_worker": (
        lambda: facts_of(
            {},
            {"shop.pay": {"rate_limit": "10/m"}},
            workers=(
                worker(tasks=frozenset({"shop.pay"})),
                worker("w2@a", tasks=frozenset({"shop.pay"})),
            ),
        ),
        lambda: facts_of(
            {},
            {"shop.pay": {"rate_limit": "10/m"}},
            workers=(worker(tasks=frozenset({"shop.pay"})),),
        ),
    ),
    "rate_limits_disabled": (
        lambda: facts_of(
            {"worker_disable_rate_limits": True}, {"shop.pay": {"rate_limit": "10/m"}}
        ),
        lambda: facts_of({"worker_disable_rate_limits": True}, ONE),
    ),
    # workers
    "worker_name_shared": (
        lambda: facts_of(workers=(worker(pids=frozenset({1, 2})),)),
        lambda: facts_of(workers=(worker(pids=frozenset({1})),)),
    ),
    "celery_versions_mixed": (
        lambda: facts_of(workers=(worker(celery="5.4.0"), worker("w2@a", celery="5.7.0"))),
        lambda: facts_of(workers=(worker(), worker("w2@a"))),
    ),
    "python_versions_mixed": (
        lambda: facts_of(workers=(worker(python="3.11.2"), worker("w2@a", python="3.12.1"))),
        lambda: facts_of(workers=(worker(python="3.11.2"), worker("w2@a", python="3.11.9"))),
    ),
    "redis_reconnect_stall": (
        lambda: facts_of(workers=(worker(celery="5.4.0"),)),
        lambda: facts_of(workers=(worker(celery="5.5.3"),)),
    ),
    "child_limits_without_effect": (
        lambda: facts_of({"worker_max_tasks_per_child": 100}, workers=(worker(pool="gevent"),)),
        lambda: facts_of({"worker_max_tasks_per_child": 100}, workers=(worker(),)),
    ),
    "autoscale_without_effect": (
        lambda: facts_of(workers=(worker(pool="threads", autoscales=True),)),
        lambda: facts_of(workers=(worker(autoscales=True),)),
    ),
    "pool_setting_of_greenlets": (
        lambda: facts_of({"worker_pool": "gevent"}),
        lambda: facts_of({"worker_pool": "threads"}),
    ),
    "task_events_off": (
        lambda: facts_of(),
        lambda: facts_of({"worker_send_task_events": True}),
    ),
    "sent_events_off": (
        lambda: facts_of(),
        lambda: facts_of({"task_send_sent_event": True}),
    ),
    "remote_control_off": (
        lambda: facts_of({"worker_enable_remote_control": False}),
        lambda: facts_of(),
    ),
    "tasks_registered_differently": (
        lambda: facts_of(
            workers=(
                worker(tasks=frozenset({"shop.pay"})),
                worker("w2@a", tasks=frozenset({"shop.pay", "shop.bill"})),
            )
        ),
        lambda: facts_of(
            workers=(
                worker(tasks=frozenset({"shop.pay"})),
                worker("w2@a", tasks=frozenset({"shop.bill"}), queues=frozenset({"bills"})),
            )
        ),
    ),
    # routing
    "route_queue_unconsumed": (
        lambda: facts_of({"task_routes": {"shop.pay": "payments"}}, ONE, workers=(worker(),)),
        lambda: facts_of({"task_routes": {"shop.pay": "celery"}}, ONE, workers=(worker(),)),
    ),
    "default_queue_unconsumed": (
        lambda: facts_of(workers=(worker(queues=frozenset({"other"})),)),
        lambda: facts_of(workers=(worker(), worker("w2@a", queues=None))),
    ),
    "route_queue_undeclared": (
        lambda: facts_of(
            {"task_queues": [Queue("celery")], "task_routes": {"shop.*": {"queue": "payments"}}}
        ),
        lambda: facts_of({"task_routes": {"shop.*": {"queue": "payments"}}}),
    ),
    "route_of_unknown_task": (
        lambda: facts_of({"task_routes": {"shop.pai": "payments"}}, ONE),
        lambda: facts_of({"task_routes": {"shop.*": "payments"}}, ONE),
    ),
    "annotation_of_unknown_task": (
        lambda: facts_of({"task_annotations": {"shop.pai": {"rate_limit": "1/s"}}}, ONE),
        lambda: facts_of({"task_annotations": {"shop.pay": {"rate_limit": "1/s"}}}, ONE),
    ),
    # priorities
    "priority_without_queue_support": (
        lambda: facts_of({"task_default_priority": 5}, broker=RABBITMQ),
        lambda: facts_of(
            {"task_default_priority": 5, "task_queue_max_priority": 10}, broker=RABBITMQ
        ),
    ),
    "queue_max_priority_without_effect": (
        lambda: facts_of({"task_queue_max_priority": 10}, broker=REDIS),
        lambda: facts_of({"task_queue_max_priority": 10}, broker=RABBITMQ),
    ),
    "redis_priority_order": (
        lambda: facts_of(
            {"task_default_priority": 5}, workers=(worker(queues=frozenset({"a", "b"})),)
        ),
        lambda: facts_of({"task_default_priority": 5}, workers=(worker(),)),
    ),
    "quorum_queue_with_max_priority": (
        lambda: facts_of({**quorum(), "task_queue_max_priority": 10}, broker=RABBITMQ),
        lambda: facts_of(quorum(), broker=RABBITMQ),
    ),
    # schedule
    "beat_task_unregistered": (
        lambda: facts_of(schedule(task="shop.pai"), ONE),
        lambda: facts_of(schedule(task="celery.backend_cleanup"), ONE),
    ),
    "beat_queue_unconsumed": (
        lambda: facts_of(schedule(options={"queue": "nightly"}), ONE, workers=(worker(),)),
        lambda: facts_of(schedule(), ONE, workers=(worker(),)),
    ),
    "beat_interval_below_time_limit": (
        lambda: facts_of(schedule(schedule=60.0), {"shop.pay": {"time_limit": 300}}),
        lambda: facts_of(schedule(schedule=crontab(hour=3)), {"shop.pay": {"time_limit": 300}}),
    ),
    "beat_entry_without_expiry": (
        lambda: facts_of(schedule(schedule=crontab()), ONE),
        lambda: facts_of(schedule(schedule=10.0, options={"expires": 10}), ONE),
    ),
    # results
    "results_never_expire": (
        lambda: facts_of({"result_expires": None}, backend=REDIS),
        lambda: facts_of({"result_expires": 60}, backend=REDIS),
    ),
    "results_expire_by_beat_only": (
        lambda: facts_of(backend="db+postgresql://u:s3cret@h/d"),
        lambda: facts_of(backend=REDIS),
    ),
    "results_of_all_tasks_kept": (
        lambda: facts_of({}, ONE, backend=REDIS),
        lambda: facts_of({}, {"shop.pay": {}, "shop.bill": {"ignore_result": True}}, backend=REDIS),
    ),
    "rpc_results": (
        lambda: facts_of(backend="rpc://"),
        lambda: facts_of(backend=REDIS),
    ),
    "results_in_one_process": (
        lambda: facts_of(backend="cache+memory://"),
        lambda: facts_of(backend="cache+memcached://h:11211/"),
    ),
    "sqlite_results": (
        lambda: facts_of(backend="db+sqlite:///results.db"),
        lambda: facts_of(backend="db+postgresql://u:s3cret@h/d"),
    ),
    "memcached_results": (
        lambda: facts_of(backend="cache+memcached://h:11211/"),
        lambda: facts_of(backend="cache+memory://"),
    ),
    "results_in_broker": (
        lambda: facts_of(backend="redis://127.0.0.1:1/5"),
        lambda: facts_of(backend="redis://127.0.0.1:2/0"),
    ),
    "chord_polls": (
        lambda: facts_of(
            backend="db+postgresql://h/d", workers=(worker(accepted={"celery.chord_unlock": 3}),)
        ),
        lambda: facts_of(backend="db+postgresql://h/d", workers=(worker(accepted={"a": 3}),)),
    ),
    "chords_with_ignored_results": (
        lambda: facts_of(
            {"task_ignore_result": True},
            backend="db+postgresql://h/d",
            workers=(worker(accepted={"celery.chord_unlock": 3}),),
        ),
        lambda: facts_of({"task_ignore_result": True}, workers=(worker(),)),
    ),
    "result_names_missing": (
        lambda: facts_of(backend="db+postgresql://h/d"),
        lambda: facts_of({"result_extended": True}, backend="db+postgresql://h/d"),
    ),
    # redis
    "redis_evicts": (
        lambda: facts_of(server=redis(maxmemory_policy="allkeys-lru", evicted_keys=3)),
        lambda: facts_of(server=redis()),
    ),
    "redis_memory_near_limit": (
        lambda: facts_of(server=redis(used_memory=85)),
        lambda: facts_of(server=redis(used_memory=75)),
    ),
    "redis_memory_unlimited": (
        lambda: facts_of(server=redis(maxmemory=0)),
        lambda: facts_of(server=ServerFacts(info={})),
    ),
    "redis_not_persistent": (
        lambda: facts_of(server=redis_config(save="", appendonly="no")),
        lambda: facts_of(server=redis_config(save="")),
    ),
    "redis_snapshots_only": (
        lambda: facts_of(server=redis_config(appendonly="no")),
        lambda: facts_of(server=redis_config()),
    ),
    "redis_saving_fails": (
        lambda: facts_of(server=redis(rdb_last_bgsave_status="err")),
        lambda: facts_of(server=redis(rdb_last_bgsave_status="ok")),
    ),
    "redis_is_replica": (
        lambda: facts_of(server=redis(role="slave")),
        lambda: facts_of(server=redis()),
    ),
    "redis_clients_near_limit": (
        lambda: facts_of(server=redis(connected_clients=90, maxclients=100)),
        lambda: facts_of(server=redis(connected_clients=10, maxclients=100)),
    ),
    "redis_output_buffer_small": (
        lambda: facts_of(
            server=redis_config(client_output_buffer_limit="normal 0 0 0 pubsub 1048576 0 0")
        ),
        lambda: facts_of(
            server=redis_config(client_output_buffer_limit="normal 0 0 0 pubsub 33554432 0 0")
        ),
    ),
    # rabbitmq
    "rabbitmq_queue_not_durable": (
        lambda: facts_of(broker=RABBITMQ, server=on_rabbitmq(queue("celery", durable=False))),
        lambda: facts_of(broker=RABBITMQ, server=on_rabbitmq(queue("other", durable=False))),
    ),
    "rabbitmq_queue_drops_tasks": (
        lambda: facts_of(
            broker=RABBITMQ, server=on_rabbitmq(queue("celery", policy={"max-length": 9}))
        ),
        lambda: facts_of(
            broker=RABBITMQ,
            server=on_rabbitmq(
                queue(
                    "celery",
                    arguments={"x-max-length": 9, "x-dead-letter-exchange": "dead"},
                )
            ),
        ),
    ),
    "rabbitmq_queue_expires": (
        lambda: facts_of(
            broker=RABBITMQ, server=on_rabbitmq(queue("celery", arguments={"x-expires": 60000}))
        ),
        lambda: facts_of(broker=RABBITMQ, server=on_rabbitmq(queue("celery"))),
    ),
    "rabbitmq_queue_declared_differently": (
        lambda: facts_of(
            {"task_default_queue_type": "quorum"},
            broker=RABBITMQ,
            server=on_rabbitmq(queue("celery")),
        ),
        lambda: facts_of(broker=RABBITMQ, server=on_rabbitmq(queue("celery"))),
    ),
    "rabbitmq_mirrored_queue": (
        lambda: facts_of(
            broker=RABBITMQ, server=on_rabbitmq(queue("celery", policy={"ha-mode": "all"}))
        ),
        lambda: facts_of(broker=RABBITMQ, server=on_rabbitmq(queue("celery"))),
    ),
    "rabbitmq_queue_abandoned": (
        lambda: facts_of(
            broker=RABBITMQ, server=on_rabbitmq(queue("old", messages=3, consumers=0))
        ),
        lambda: facts_of(
            broker=RABBITMQ, server=on_rabbitmq(queue("old", messages=3, consumers=None))
        ),
    ),
    "rabbitmq_refuses_transient_queues": (
        lambda: facts_of(
            broker=RABBITMQ,
            server=on_rabbitmq(version="4.3.0"),
            workers=(worker(celery="5.6.3"),),
        ),
        lambda: facts_of(
            broker=RABBITMQ,
            server=on_rabbitmq(version="4.3.0"),
            workers=(worker(celery="5.7.0"),),
        ),
    ),
    # transports
    "broker_in_memory": (
        lambda: facts_of(broker="memory://"),
        lambda: facts_of(),
    ),
    "broker_in_files": (
        lambda: facts_of(broker="filesystem://"),
        lambda: facts_of(),
    ),
    "broker_in_database": (
        lambda: facts_of(broker="sqla+sqlite:///broker.db"),
        lambda: facts_of(),
    ),
    "transport_option_unknown": (
        lambda: facts_of({"broker_transport_options": {"visibility_timeuot": 1}}),
        lambda: facts_of({"broker_transport_options": {"visibility_timeout": 1000}}),
    ),
    "redis_without_connect_timeout": (
        lambda: facts_of(),
        lambda: facts_of(
            {"broker_transport_options": {"socket_timeout": 30, "socket_connect_timeout": 5}}
        ),
    ),
    "redis_health_check_off": (
        lambda: facts_of({"broker_transport_options": {"health_check_interval": 0}}),
        lambda: facts_of(),
    ),
    "redis_socket_timeout_short": (
        lambda: facts_of({"broker_transport_options": {"socket_timeout": 0.5}}),
        lambda: facts_of({"broker_transport_options": {"socket_timeout": 30}}),
    ),
    "ack_emulation_off": (
        lambda: facts_of({"broker_transport_options": {"ack_emulation": False}}),
        lambda: facts_of(),
    ),
    # connection
    "retry_on_startup_unset": (
        lambda: facts_of(),
        lambda: facts_of({"broker_connection_retry_on_startup": True}),
    ),
    "connection_retry_off": (
        lambda: facts_of({"broker_connection_retry": False}),
        lambda: facts_of(),
    ),
    "heartbeat_off": (
        lambda: facts_of({"broker_heartbeat": 0}, broker=RABBITMQ),
        lambda: facts_of({"broker_heartbeat": 0}, broker=REDIS),
    ),
    "connection_pool_off": (
        lambda: facts_of({"broker_pool_limit": None}),
        lambda: facts_of(),
    ),
    # security
    "pickle_accepted": (
        lambda: facts_of({"accept_content": ["json", "application/x-python-serialize"]}),
        lambda: facts_of(),
    ),
    "own_serializer_not_accepted": (
        lambda: facts_of({"task_serializer": "yaml"}),
        lambda: facts_of({"task_serializer": "yaml", "accept_content": ["yaml", "json"]}),
    ),
    "password_in_clear_text": (
        lambda: facts_of(broker="redis://:s3cret@redis.example.com/0"),
        lambda: facts_of(broker="redis://:s3cret@127.0.0.1/0"),
    ),
    "broker_without_password": (
        lambda: facts_of(broker="redis://redis.example.com/0"),
        lambda: facts_of(broker="redis+socket:///run/redis.sock"),
    ),
    "rabbitmq_default_user": (
        lambda: facts_of(broker="amqp://rabbit.example.com//"),
        lambda: facts_of(broker="amqp://guest:guest@localhost//"),
    ),
    "broker_certificate_unverified": (
        lambda: facts_of(broker="rediss://:s3cret@h/0"),
        lambda: facts_of(broker="rediss://:s3cret@h/0?ssl_cert_reqs=required"),
    ),
    "backend_certificate_unverified": (
        lambda: facts_of(backend="rediss://:s3cret@h/0?ssl_cert_reqs=none"),
        lambda: facts_of(backend="rediss://:s3cret@h/0?ssl_cert_reqs=required"),
    ),
    # settings
    "always_eager": (
        lambda: facts_of({"task_always_eager": True}),
        lambda: facts_of(),
    ),
    "setting_old_name": (
        lambda: facts_of(source={"BROKER_URL": REDIS, "CELERYD_CONCURRENCY": 4}),
        lambda: facts_of(
            source={"CELERY_BROKER_URL": REDIS, "CELERY_RESULT_BACKEND": REDIS},
            namespace="CELERY",
        ),
    ),
    "settings_old_and_new": (
        lambda: facts_of(
            source={
                "broker_url": REDIS,
                "result_expires": 60,
                "CELERY_TASK_RESULT_EXPIRES": 90,
            }
        ),
        lambda: facts_of(source={"broker_url": REDIS, "result_expires": 60}),
    ),
    "setting_misspelled": (
        lambda: facts_of({"worker_prefetch_multipler": 1}),
        lambda: facts_of({"result_backend_of_mine": 1, "redbeat_redis_url": REDIS}),
    ),
    "setting_deprecated": (
        lambda: facts_of({"task_acks_on_failure_or_timeout": True}),
        lambda: facts_of({"task_acks_on_failure": True}),
    ),
    "utc_disabled": (
        lambda: facts_of({"enable_utc": False}),
        lambda: facts_of({"timezone": "Europe/Berlin"}),
    ),
    "task_protocol_old": (
        lambda: facts_of({"task_protocol": 1}),
        lambda: facts_of(),
    ),
}
