"""An exposition like the exporter's for the cluster of the demo."""

GOOD = """\
# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
# HELP celery_broker_up Whether the broker answered.
# TYPE celery_broker_up gauge
celery_broker_up 1
# HELP celery_result_backend_up Whether the result backend stores a value.
# TYPE celery_result_backend_up gauge
celery_result_backend_up 1
# HELP celery_worker_up Whether the worker answered.
# TYPE celery_worker_up gauge
celery_worker_up{worker="orders@demo"} 1
celery_worker_up{worker="media@demo"} 1
# HELP celery_worker_info The worker's pool.
# TYPE celery_worker_info gauge
celery_worker_info{pool="prefork",version="5.7.0",worker="orders@demo"} 1
celery_worker_info{pool="threads",version="5.7.0",worker="media@demo"} 1
# HELP celery_worker_pool_slots Tasks that the worker runs at once.
# TYPE celery_worker_pool_slots gauge
celery_worker_pool_slots{worker="orders@demo"} 3
celery_worker_pool_slots{worker="media@demo"} 4
# HELP celery_worker_tasks_accepted_total Tasks that the worker's pool has accepted.
# TYPE celery_worker_tasks_accepted_total counter
celery_worker_tasks_accepted_total{task="shop.visit",worker="orders@demo"} 5
celery_worker_tasks_accepted_total{task="shop.place_order",worker="orders@demo"} 7
celery_worker_tasks_accepted_total{task="shop.send_mail",worker="media@demo"} 2
# HELP celery_queue_length Messages that wait for a consumer.
# TYPE celery_queue_length gauge
celery_queue_length{queue="orders"} 3
celery_queue_length{queue="reports"} 5
# HELP celery_queue_workers Workers that consume the queue.
# TYPE celery_queue_workers gauge
celery_queue_workers{queue="orders"} 1
celery_queue_workers{queue="reports"} 0
"""
